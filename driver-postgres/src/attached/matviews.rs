//! Materialized views that read the table. One cannot be told of another table, as a view can: a new one is made over the table
//! that comes in, and filled, before the swap, which gives it the name.
//!
//! Two things are asked of each: what it is like, since the other one must be; and the stamp of its row in the catalogue, which
//! every REFRESH changes, a concurrent one, too, and one that changes no row (only the first one changes the file).

use replank_core::{Error, ErrorKind, Result};

use super::{Part, part, related};
use crate::connect::Conn;
use crate::sql::{first, get, is_so, text};
use crate::zones::UTC;

/// Those that read the live table itself, as a part of the recursive WITH; and with it what views may be on top of.
pub const READING: &str = "m AS (
         SELECT DISTINCT v.oid
         FROM l, pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
         WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid AND v.relkind = 'm'),
     changing AS (SELECT oid FROM l UNION ALL SELECT oid FROM m)";

/// One that reads the live table, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matview {
    /// Its number.
    pub oid: i64,
    /// Another one after every REFRESH, and after some changes of its definition.
    pub stamp: String,
    /// What it is like but for its rows, as one hash.
    pub likeness: String,
}

impl Matview {
    /// As the question answers.
    pub(super) fn of(told: &str) -> Result<Self> {
        let mut parts = told.splitn(3, '|');
        let (oid, likeness, stamp) = (parts.next(), parts.next(), parts.next());
        match (oid.and_then(|oid| oid.parse().ok()), likeness, stamp) {
            (Some(oid), Some(likeness), Some(stamp)) => {
                Ok(Self { oid, likeness: likeness.to_owned(), stamp: stamp.to_owned() })
            }
            _ => {
                Err(Error::new(ErrorKind::Internal, "what is told of a materialized view is not understood")
                    .with("it is", told.to_owned()))
            }
        }
    }
}

/// The stamp of a row `v` of `pg_class`, as an expression.
pub const STAMP: &str = "concat_ws(' ', v.xmin, v.ctid, v.relispopulated)";

/// What a row `v` of `pg_class` is like, as an expression; without a search path. No `md5`, which servers may forbid.
pub const LIKENESS: &str = "hashtextextended(concat_ws(E'\\n', v.relname, v.relnamespace, v.relowner, v.relacl, v.reloptions, v.reltablespace, v.relam,
             obj_description(v.oid, 'pg_class'), (SELECT t.reloptions FROM pg_class t WHERE t.oid = v.reltoastrelid),
             (SELECT string_agg(concat_ws(' ', a.attname, a.atttypid, a.atttypmod, a.attcollation, a.attstorage, a.attcompression,
                                a.attstattarget, a.attacl, col_description(a.attrelid, a.attnum),
                                (SELECT string_agg(o, ',') FROM unnest(a.attoptions) AS o WHERE NOT starts_with(o, 'pg_'))),
                                E'\\n' ORDER BY a.attnum)
              FROM pg_attribute a WHERE a.attrelid = v.oid AND a.attnum > 0 AND NOT a.attisdropped),
             (SELECT string_agg(concat_ws(' ', pg_get_indexdef(c.oid), x.indisclustered, x.indisvalid, c.reltablespace,
                                obj_description(c.oid, 'pg_class'),
                                (SELECT string_agg(concat_ws(' ', a.attnum, a.attstattarget), ',' ORDER BY a.attnum)
                                 FROM pg_attribute a WHERE a.attrelid = c.oid)), E'\\n' ORDER BY c.relname)
              FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid WHERE x.indrelid = v.oid),
             (SELECT string_agg(concat_ws(' ', pg_get_statisticsobjdef(s.oid), s.stxowner, s.stxstattarget,
                                obj_description(s.oid, 'pg_statistic_ext')), E'\\n' ORDER BY s.oid)
              FROM pg_statistic_ext s WHERE s.stxrelid = v.oid)), 0)::text";

/// The parts.
pub fn parts() -> Vec<Part> {
    let mut all = vec![
        part(
            1,
            format!(
                "SELECT 'matview', concat_ws('|', v.oid, {LIKENESS}, {STAMP}) FROM m JOIN pg_class v ON v.oid = m.oid"
            ),
        ),
        related("SELECT oid FROM m"),
        part(1, "SELECT DISTINCT 'cannot', format('%s, which uses the materialized view %s',
                    coalesce('the materialized view ' || v.oid::regclass, pg_describe_object(d.classid, d.objid, d.objsubid)), c.oid::regclass)
             FROM m JOIN pg_class c ON c.oid = m.oid LEFT JOIN pg_type t ON t.oid = c.reltype
             JOIN pg_depend d ON d.deptype = 'n' AND (d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
                                                   OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.oid, t.typarray))
             LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid AND w.rulename = '_RETURN'
             LEFT JOIN pg_class v ON v.oid = w.ev_class AND v.relkind = 'm'
             WHERE w.ev_class IS DISTINCT FROM c.oid AND (w.ev_class IS NULL OR v.oid IS NOT NULL OR d.refclassid <> 'pg_class'::regclass)"),
    ];
    all.extend(OBSTACLES.iter().map(|(what, condition)| {
        part(
            1,
            format!(
                "SELECT 'cannot', format('the materialized view %s, %s', v.oid::regclass, {what})
                 FROM m JOIN pg_class v ON v.oid = m.oid JOIN pg_namespace n ON n.oid = v.relnamespace
                 JOIN pg_roles r ON r.oid = v.relowner CROSS JOIN l JOIN pg_class t ON t.oid = l.oid WHERE {condition}"
            ),
        )
    }));
    all
}

/// What keeps one, `v` in the schema `n`, of the owner `r`, from following the table `t`; and when that is so.
const OBSTACLES: [(&str, &str); 11] = [
    (
        "'which another run keeps, or makes: `replank finalize` or `replank abort` that one first'",
        "starts_with(v.relname, '_rp_')",
    ),
    ("'which belongs to another login'", "NOT pg_has_role(v.relowner, 'USAGE')"),
    (
        "format('whose owner may not read the whole table: GRANT SELECT ON %s TO %I', l.name, r.rolname)",
        "NOT has_table_privilege(v.relowner, l.oid, 'SELECT')",
    ),
    // What a policy shows its owner would be more, over a table without policies.
    (
        "'whose owner sees only what the policies of the table let him see: drop it first, and make it again afterwards'",
        "t.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls
         AND (t.relforcerowsecurity OR NOT pg_has_role(v.relowner, t.relowner, 'USAGE'))",
    ),
    (
        "format('which is made anew: GRANT CREATE ON SCHEMA %I TO the login', n.nspname)",
        "NOT has_schema_privilege(n.oid, 'CREATE')",
    ),
    (
        "format('which is made anew: GRANT CREATE ON SCHEMA %I TO %I', n.nspname, r.rolname)",
        "NOT has_schema_privilege(v.relowner, n.oid, 'CREATE') AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)",
    ),
    (
        "format('which is made anew by way of a schema that is there for a moment: GRANT CREATE ON DATABASE %I TO the login', current_database())",
        "NOT has_database_privilege(current_database(), 'CREATE')",
    ),
    (
        "'which has an index that is not valid: REINDEX INDEX CONCURRENTLY that one, or drop it'",
        "EXISTS (SELECT FROM pg_index x WHERE x.indrelid = v.oid AND NOT x.indisvalid)",
    ),
    (
        "'on which others than its owner have granted something'",
        "EXISTS (SELECT FROM aclexplode(v.relacl) AS a WHERE a.grantor <> v.relowner)
         OR EXISTS (SELECT FROM pg_attribute t, aclexplode(t.attacl) AS a WHERE t.attrelid = v.oid AND a.grantor <> v.relowner)",
    ),
    (
        "'which is a part of an extension'",
        "EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = v.oid AND d.deptype = 'e')",
    ),
    (
        "'which has a security label'",
        "EXISTS (SELECT FROM pg_seclabel s WHERE s.classoid = 'pg_class'::regclass AND s.objoid = v.oid)",
    ),
];

/// Why what a materialized view, or a view, says would be another thing when we fill it, if it would, or if that cannot be told.
///
/// The zone of whoever refreshes it is perhaps not the one of our sessions, and the way in which times are written another one.
/// To compute it twice and compare would be sure, and would run the owner's functions with our rights. So the server's tree of it, and
/// of views in between, is searched: for what the server does not hold immutable, and that takes or gives such times; for texts
/// of them; for whatever takes values of any type where such times are about; and for functions that are not the server's own, unless
/// they are said to be IMMUTABLE. The name that a table has while it is filled is one of ours.
pub async fn said_otherwise(connection: &mut Conn, view: i64) -> Result<Option<String>> {
    let trees = format!(
        "v AS (SELECT {view}::oid AS oid
               UNION SELECT c.oid FROM v JOIN pg_rewrite w ON w.ev_class = v.oid
               JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
               JOIN pg_class c ON c.oid = d.refobjid AND c.relkind = 'v'),
         w AS (SELECT w.ev_action::text AS tree FROM v JOIN pg_rewrite w ON w.ev_class = v.oid)"
    );
    let shows_tables =
        format!("WITH RECURSIVE {trees} SELECT EXISTS (SELECT FROM w WHERE tree ~ ':varattno -6 ')");
    if is_so(connection, shows_tables).await? {
        let what = "which shows the number or name of a table (tableoid): leave that out, or drop it first and make it again afterwards";
        return Ok(Some(what.to_owned()));
    }
    let Some((about, kinds)) = differing(connection).await? else { return Ok(None) };
    // A type holds such times by itself, in elements, in columns, or as bounds.
    let sql = format!(
        "WITH RECURSIVE {trees},
         m AS (SELECT f[1]::oid AS oid FROM w, regexp_matches(tree, ':\\w*type(?:id|Id)? (\\d+)', 'g') AS f
               UNION SELECT o::oid FROM w, regexp_matches(tree, ':\\w*types \\(o ([\\d ]+)\\)', 'g') AS f, regexp_split_to_table(f[1], ' ') AS o),
         h AS (SELECT oid AS whole, oid FROM m
               UNION SELECT h.whole, x.oid FROM h JOIN pg_type t ON t.oid = h.oid CROSS JOIN LATERAL (
                   SELECT unnest(ARRAY[t.typelem, t.typbasetype])
                   UNION ALL SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
                   UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)) AS x(oid) WHERE x.oid <> 0),
         s AS (SELECT DISTINCT whole AS oid FROM h WHERE oid = ANY ('{{{kinds}}}'::oid[])),
         f AS (SELECT DISTINCT f[1]::oid AS oid
               FROM w, regexp_matches(tree, ':(?:funcid|opfuncid|aggfnoid|winfnoid) (\\d+)', 'g') AS f)
         SELECT EXISTS (SELECT FROM w WHERE tree ~ 'SQLVALUEFUNCTION :op \\d+ :type (1082|1083|1114|1266) ')
             OR EXISTS (SELECT FROM w, regexp_matches(tree, 'COERCEVIAIO :arg \\{{\\w+([^{{}}]*)', 'g') AS a
                        WHERE coalesce(substring(a[1] FROM ':\\w*type(?:id|Id)? (\\d+)')::oid IN (TABLE s), EXISTS (TABLE s)))
             OR EXISTS (SELECT FROM w, regexp_matches(tree, ':resulttype (\\d+) :resultcollid', 'g') AS a WHERE a[1]::oid IN (TABLE s))
             OR EXISTS (TABLE s) AND EXISTS (SELECT FROM w WHERE tree ~ '\\{{(XMLEXPR|TABLEFUNC|JSONEXPR|JSONCONSTRUCTOREXPR) ')
             OR EXISTS (SELECT FROM f JOIN pg_proc p ON p.oid = f.oid WHERE p.provolatile <> 'i' AND (
                    p.pronamespace <> 'pg_catalog'::regnamespace
                    OR p.proname ~ '_tz$' OR p.proname = 'timeofday' OR p.proname = 'age' AND p.pronargs = 1
                    OR p.proargtypes::oid[] && '{{{kinds}}}'::oid[] OR p.prorettype = ANY ('{{{kinds}}}'::oid[]) AND p.pronargs > 0
                    OR EXISTS (TABLE s) AND (p.prorettype = 'record'::regtype OR EXISTS (
                           SELECT FROM unnest(p.proargtypes) AS a JOIN pg_type t ON t.oid = a
                           WHERE t.typtype = 'p' OR t.oid IN ('json'::regtype, 'jsonb'::regtype)))))"
    );
    let is_said = is_so(connection, sql).await?;
    Ok(is_said.then(|| {
        format!(
            "whose contents may depend on {about} of whoever refreshes it: write AT TIME ZONE in it, or the format, and use \
             functions that are IMMUTABLE; or drop it first and make it again afterwards"
        )
    }))
}

/// What sessions of others have set otherwise than the one that fills, perhaps, and the numbers of the types that are read or
/// written otherwise then.
///
/// What zone the server has for sessions that name none, no session of ours can ask; it writes its log in the same one, unless
/// somebody has set them apart. In which order it reads a date's day and month cannot be asked either, since our client names one when it
/// connects: when a cluster is made that order is set by its locale for times. The style in which dates are written is ISO unless somebody has
/// set it for a database or a role.
async fn differing(connection: &mut Conn) -> Result<Option<(&'static str, &'static str)>> {
    let utc = UTC.map(text).join(", ");
    let sql = format!(
        "WITH c AS (SELECT split_part(lower(c), '=', 1) AS name, substr(lower(c), strpos(c, '=') + 1) AS value
                    FROM pg_db_role_setting s CROSS JOIN LATERAL unnest(s.setconfig) AS c
                    WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())))
         SELECT lower(current_setting('log_timezone')) NOT IN ({utc})
                OR EXISTS (SELECT FROM c WHERE name = 'timezone' AND value NOT IN ({utc})),
                EXISTS (SELECT FROM c JOIN pg_settings p ON lower(p.name) = c.name WHERE c.name IN ('datestyle', 'intervalstyle')
                        AND NOT string_to_array(replace(c.value, ' ', ''), ',') <@ string_to_array(replace(lower(p.reset_val), ' ', ''), ',')),
                current_setting('lc_time')"
    );
    let Some(row) = first(connection, sql).await? else { return Ok(None) };
    let is_of_style = get::<bool>(&row, 1)? || !has_month_first(&get::<String>(&row, 2)?);
    Ok(match (get::<bool>(&row, 0)?, is_of_style) {
        (false, false) => None,
        // timestamptz, timetz
        (true, false) => Some(("the time zone", "1184,1266")),
        // date, timestamp, timestamptz, interval
        (false, true) => Some(("the DateStyle or IntervalStyle", "1082,1114,1184,1186")),
        (true, true) => Some(("the time zone, DateStyle or IntervalStyle", "1082,1114,1184,1186,1266")),
    })
}

/// Whether a cluster of this locale reads 03/04 as a day in March, as our sessions do.
fn has_month_first(lc_time: &str) -> bool {
    let language = lc_time.split(['.', '@']).next().unwrap_or_default();
    ["c", "posix", "en_us"].contains(&language.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_a_date_is_that_of_the_locale() {
        for locale in ["C", "C.UTF-8", "POSIX", "en_US.UTF-8", "en_US", "en_US.utf8@euro"] {
            assert!(has_month_first(locale), "{locale}");
        }
        for locale in ["en_GB.UTF-8", "de_DE.UTF-8", "hu_HU", "", "Cx"] {
            assert!(!has_month_first(locale), "{locale}");
        }
    }
}
