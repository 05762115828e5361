//! Making a materialized view over the table that is not live, as the live one is over the other one.
//!
//! The server's text of it names the table. For a moment the table that is not live has that name, in a schema of ours that is
//! looked at first: so the text means it, and what the server makes of it later is the same text, without an alias. All of that
//! is one transaction, and nobody else ever sees the schema.

use replank_core::{Error, ErrorKind, Result};
use serde_json::json;

use super::matviews::{Aside, index_names, stamps, statistics_names, statistics_names_of};
use super::prepare::closing;
use super::{Core, number_of};
use crate::attached::{Matview, said_otherwise};
use crate::connect::Conn;
use crate::definition::{Definition, within_no_path};
use crate::sql::{first, get, ident, is_so, rows, run, table, text};
use crate::state::{ObjectRole, held};
use replank_core::engine::boundary::{Boundary, reached};

/// Nobody but ours has any business with the table that is not live, but for a backup. Chosen: as the default budget of the swap.
const WAIT_MS: u32 = 200;

/// Makes one, without rows, and remembers it. Answers with its number.
pub async fn make(
    core: &Core,
    connection: &mut Conn,
    live: &Matview,
    tail: String,
    (live_table, written_table): (i64, i64),
) -> Result<(i64, Aside)> {
    run(connection, format!("BEGIN; SET LOCAL lock_timeout = {WAIT_MS}")).await?;
    // Whoever takes over waits for it, or it finds that it was overtaken.
    let ours = format!("SELECT {}", held(&core.names, &core.job.table, core.fence()));
    if !is_so(connection, ours).await? {
        core.check_token(connection).await?;
        return Err(Error::new(ErrorKind::Fenced, "the lease is another runner's"));
    }
    let whole = Whole::read(connection, live.oid).await?;
    let mut aside = Aside {
        schema: whole.schema.clone(),
        tail,
        of: live.oid,
        likeness: live.likeness.clone(),
        // Without rows it says the same as one that has none.
        stamp: (!whole.has_rows).then(|| live.stamp.clone()),
        filled: None,
        indexes: whole.definition.indexes.iter().map(|index| index.name.clone()).collect(),
        statistics: statistics_names_of(connection, live.oid).await?,
    };
    let full = table(&aside.schema, &core.matview_name(&aside.tail, core.fence()));
    over_the_other_table(core, connection, &whole, live.oid, &full).await?;
    let incoming = number_of(connection, &full)
        .await?
        .ok_or_else(|| Error::new(ErrorKind::Internal, "a materialized view was made and is not there"))?;
    let tables = (live_table, written_table);
    if !is_so(connection, reads_the_same(live.oid, incoming, tables)).await? {
        return Err(cannot(&whole.told, "whose text cannot be led to another table"));
    }
    for view in [live.oid, incoming] {
        if let Some(why) = said_otherwise(connection, view).await? {
            return Err(cannot(&whole.told, &why));
        }
    }
    run(connection, closing(&full)).await?;
    for (index, (ours, _)) in whole.definition.indexes.iter().zip(index_names(core, &aside)) {
        run(connection, index.making(&full, &ident(&ours))).await?;
    }
    for statement in settings(core, connection, live.oid, incoming, &full, &aside).await? {
        run(connection, statement).await?;
    }
    if !whole.has_rows {
        aside.filled = stamps(connection, [incoming]).await?.remove(&incoming);
    }
    core.objects
        .put(connection, ObjectRole::Matview, &core.matview_name(&aside.tail, core.fence()), &json!(aside))
        .await?;
    run(connection, "COMMIT").await?;
    reached(Boundary::Moving);
    Ok((incoming, aside))
}

fn cannot(told: &str, why: &str) -> Error {
    Error::new(
        ErrorKind::ForeignDdl,
        format!("it cannot follow the table: the materialized view {told}, {why}"),
    )
    .hint("DROP MATERIALIZED VIEW it, then `replank resume`, and make it again afterwards")
}

/// What the statement that makes one says beside its text.
struct Whole {
    schema: String,
    /// Its name, as it is told.
    told: String,
    /// Between the name and AS.
    head: String,
    has_rows: bool,
    definition: Definition,
}

impl Whole {
    async fn read(connection: &mut Conn, number: i64) -> Result<Self> {
        let options = |of: &str, prefix: &str| {
            format!(
                "(SELECT string_agg(format('{prefix}%s = %L', split_part(o, '=', 1), substr(o, strpos(o, '=') + 1)), ', ')
                  FROM unnest({of}) AS o)"
            )
        };
        let sql = format!(
            "SELECT n.nspname::text, v.oid::regclass::text,
                    concat_ws(' ', 'USING ' || quote_ident(am.amname),
                              'WITH (' || nullif(concat_ws(', ', {}, {}), '') || ')', 'TABLESPACE ' || quote_ident(ts.spcname)),
                    v.relispopulated
             FROM pg_class v JOIN pg_namespace n ON n.oid = v.relnamespace LEFT JOIN pg_class t ON t.oid = v.reltoastrelid
             LEFT JOIN pg_am am ON am.oid = v.relam LEFT JOIN pg_tablespace ts ON ts.oid = v.reltablespace
             WHERE v.oid = {number}",
            options("v.reloptions", ""),
            options("t.reloptions", "toast."),
        );
        let row = first(connection, within_no_path(&sql)).await?;
        let row = row.ok_or_else(|| Error::new(ErrorKind::Retry, "a materialized view went just now"))?;
        let definition = Definition::read(connection, number).await?;
        let (schema, told, head) = (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
        Ok(Self { schema, told, head, has_rows: get(&row, 3)?, definition })
    }
}

/// Makes it, while the table that is not live has the table's name.
async fn over_the_other_table(
    core: &Core,
    connection: &mut Conn,
    whole: &Whole,
    live: i64,
    full: &str,
) -> Result<()> {
    let (schema, name) = (&core.spec.schema, &core.job.table.name);
    let (helper, scratch) = (core.written_name(), format!("_rp_{}_0_scratch", core.job.run.short()));
    // The table is named without its schema then, and nothing else of another one is. What is temporary comes last, or it
    // would be first.
    let asked =
        format!("SET LOCAL search_path = {}, pg_temp; SELECT pg_get_viewdef({live}::oid)", ident(schema));
    let Some(row) = first(connection, asked).await? else { return Ok(()) };
    let told: String = get(&row, 0)?;
    let beginning = format!(
        "CREATE SCHEMA {0}; ALTER TABLE {1} SET SCHEMA {0}; ALTER TABLE {2} RENAME TO {3};
         SET LOCAL search_path = {0}, {4}, pg_temp",
        ident(&scratch),
        core.written(),
        table(&scratch, &helper),
        ident(name),
        ident(schema)
    );
    run(connection, beginning).await.map_err(|error| core.missed(error))?;
    let making = format!(
        "CREATE MATERIALIZED VIEW {full} {} AS {} WITH NO DATA",
        whole.head,
        told.trim_end().trim_end_matches(';')
    );
    match run(connection, making).await {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::LockTimeout | ErrorKind::Retry | ErrorKind::ConnectionLost
            ) =>
        {
            return Err(error);
        }
        Err(error) => {
            let what = format!("which the new shape does not take: {}", error.message());
            return Err(cannot(&whole.told, &what).caused_by(error));
        }
        Ok(_) => {}
    }
    let end = format!(
        "ALTER TABLE {} RENAME TO {}; ALTER TABLE {} SET SCHEMA {}; DROP SCHEMA {}; SET LOCAL search_path TO DEFAULT",
        table(&scratch, name),
        ident(&helper),
        table(&scratch, &helper),
        ident(schema),
        ident(&scratch)
    );
    run(connection, end).await.map(drop)
}

/// A query for whether the new one reads what the live one reads, but for the one table.
pub fn reads_the_same(live: i64, incoming: i64, (live_table, written_table): (i64, i64)) -> String {
    let read = |of: i64| {
        format!(
            "(SELECT array_agg(DISTINCT CASE WHEN d.refobjid = {live_table} AND w.ev_class = {live} THEN {written_table}::oid ELSE d.refobjid END)
              FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid
              WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'n'
              AND w.ev_class = {of} AND d.refobjid <> {of})"
        )
    };
    format!("SELECT {} = {}", read(live), read(incoming))
}

/// Everything else that the live one has, as statements.
async fn settings(
    core: &Core,
    connection: &mut Conn,
    live: i64,
    incoming: i64,
    full: &str,
    aside: &Aside,
) -> Result<Vec<String>> {
    let listed = |names: Vec<(String, String, String)>| {
        let rows = names
            .iter()
            .map(|(schema, ours, own)| format!("({}, {}, {})", text(schema), text(ours), text(own)));
        let none = "(NULL, NULL, NULL)".to_owned();
        rows.chain([none]).collect::<Vec<_>>().join(", ")
    };
    let indexes = index_names(core, aside).into_iter().map(|(ours, own)| (aside.schema.clone(), ours, own));
    let sql = format!(
        "WITH v AS (SELECT c.*, {name} AS name FROM pg_class c WHERE c.oid = {live}),
              x AS (SELECT i.indexrelid AS oid, i.indisclustered, o.ours, format('%I.%I', o.schema, o.ours) AS name
                    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                    JOIN (VALUES {indexes}) AS o(schema, ours, own) ON o.own = c.relname WHERE i.indrelid = {live}),
              s AS (SELECT s.*, format('%I.%I', n.nspname, o.ours) AS name,
                           format('CREATE STATISTICS %I.%I', n.nspname, s.stxname) AS head,
                           format(' FROM %s', {live}::regclass) AS tail, pg_get_statisticsobjdef(s.oid) AS definition
                    FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace
                    JOIN (VALUES {statistics}) AS o(schema, ours, own) ON o.own = s.stxname AND o.schema = n.nspname
                    WHERE s.stxrelid = {live}),
              a AS (SELECT o.*, n.atttypid = o.atttypid AND n.attstorage <> o.attstorage AS has_storage,
                           n.atttypid = o.atttypid AND n.attcompression <> o.attcompression AS has_compression
                    FROM pg_attribute o JOIN pg_attribute n ON n.attrelid = {incoming} AND n.attnum = o.attnum
                    WHERE o.attrelid = {live} AND o.attnum > 0)
         SELECT statement FROM (
             SELECT 1, format('ALTER MATERIALIZED VIEW %s ALTER COLUMN %I SET STORAGE %s', v.name, attname,
                              CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END)
             FROM v, a WHERE has_storage
             UNION ALL
             SELECT 1, format('ALTER MATERIALIZED VIEW %s ALTER COLUMN %I SET COMPRESSION %s', v.name, attname,
                              CASE attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' ELSE 'default' END)
             FROM v, a WHERE has_compression
             UNION ALL
             SELECT 1, format('ALTER MATERIALIZED VIEW %s ALTER COLUMN %I SET STATISTICS %s', v.name, attname, attstattarget)
             FROM v, a WHERE nullif(attstattarget, -1) IS NOT NULL
             UNION ALL
             SELECT 1, format('ALTER MATERIALIZED VIEW %s ALTER COLUMN %I SET (%s)', v.name, attname, o.options)
             FROM v, a CROSS JOIN LATERAL (
                 SELECT string_agg(format('%s = %L', split_part(o, '=', 1), substr(o, strpos(o, '=') + 1)), ', ') AS options
                 FROM unnest(a.attoptions) AS o WHERE NOT starts_with(o, 'pg_')) AS o WHERE o.options IS NOT NULL
             UNION ALL
             SELECT 1, format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS %s', x.name, c.attnum, c.attstattarget)
             FROM x JOIN pg_attribute c ON c.attrelid = x.oid AND c.attnum > 0 AND nullif(c.attstattarget, -1) IS NOT NULL
             UNION ALL
             SELECT 1, format('ALTER MATERIALIZED VIEW %s CLUSTER ON %I', v.name, x.ours) FROM v, x WHERE x.indisclustered
             UNION ALL
             SELECT 2, 'CREATE STATISTICS ' || s.name || substr(definition, length(head) + 1, length(definition) - length(head) - length(tail))
                       || ' FROM ' || v.name
                       || CASE WHEN nullif(s.stxstattarget, -1) IS NOT NULL
                               THEN format('; ALTER STATISTICS %s SET STATISTICS %s', s.name, s.stxstattarget) ELSE '' END
                       || coalesce(format('; COMMENT ON STATISTICS %s IS %L', s.name, obj_description(s.oid, 'pg_statistic_ext')), '')
                       || format('; ALTER STATISTICS %s OWNER TO %I', s.name, pg_get_userbyid(s.stxowner))
             FROM v, s
             UNION ALL
             SELECT 3, format('COMMENT ON MATERIALIZED VIEW %s IS %L', v.name, obj_description(v.oid, 'pg_class')) FROM v
             WHERE obj_description(v.oid, 'pg_class') IS NOT NULL
             UNION ALL
             SELECT 3, format('COMMENT ON COLUMN %s.%I IS %L', v.name, attname, col_description(v.oid, attnum)) FROM v, a
             WHERE col_description(v.oid, attnum) IS NOT NULL
             UNION ALL
             SELECT 3, format('COMMENT ON INDEX %s IS %L', x.name, obj_description(x.oid, 'pg_class')) FROM x
             WHERE obj_description(x.oid, 'pg_class') IS NOT NULL
             UNION ALL
             SELECT 4, format('ALTER MATERIALIZED VIEW %s OWNER TO %I', v.name, pg_get_userbyid(v.relowner)) FROM v
             UNION ALL
             SELECT 5, format('GRANT %s ON %s TO %s%s', string_agg(g.privilege_type, ', ' ORDER BY g.privilege_type), v.name,
                              CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
                              CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
             FROM v CROSS JOIN LATERAL aclexplode(v.relacl) AS g WHERE g.grantee <> v.relowner
             GROUP BY v.name, g.grantee, g.is_grantable
             UNION ALL
             SELECT 5, format('GRANT %s (%I) ON %s TO %s%s', g.privilege_type, a.attname, v.name,
                              CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
                              CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
             FROM v, a CROSS JOIN LATERAL aclexplode(a.attacl) AS g
             UNION ALL
             SELECT 6, format('REVOKE %s ON %s FROM %I', d.privilege_type, v.name, pg_get_userbyid(v.relowner))
             FROM v CROSS JOIN LATERAL aclexplode(acldefault('r', v.relowner)) AS d
             WHERE v.relacl IS NOT NULL AND NOT EXISTS (
                 SELECT FROM aclexplode(v.relacl) AS g WHERE g.grantee = v.relowner AND g.privilege_type = d.privilege_type)
         ) AS found(place, statement) ORDER BY place, statement",
        name = text(full),
        indexes = listed(indexes.collect()),
        statistics = listed(statistics_names(core, aside)),
    );
    rows(connection, within_no_path(&sql)).await?.iter().map(|row| get(row, 0)).collect()
}
