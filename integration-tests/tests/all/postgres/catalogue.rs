//! Everything that the catalogue says of a table and of what hangs on it, in words that do not depend on when it was
//! made, or by whom.

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::table::{query, run};

/// All of it, sorted, without replank's own helpers. Names come without the schema where it is the table's own.
pub async fn described(connection: &mut PgConnection, schema: &str, table: &str) -> Vec<String> {
    let path = format!("SET search_path = \"{schema}\"");
    run(connection, &path).await.expect("a search path");
    let lines = query(connection, &sql(schema, table)).await;
    run(connection, "RESET search_path").await.expect("the search path again");
    lines.iter().map(|row| row.get::<Option<String>, _>(0).expect("a line")).collect()
}

fn sql(schema: &str, table: &str) -> String {
    let acl = |held: &str, kind: &str, owner: &str| {
        format!(
            "(SELECT string_agg(a::text, ',' ORDER BY a::text)
              FROM unnest(coalesce({held}, acldefault('{kind}', {owner}))) AS a)"
        )
    };
    format!(
        "WITH l AS (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = '{schema}' AND c.relname = '{table}'),
         -- Materialized views over it have what a table has.
         lm AS (SELECT oid, NULL::regclass AS whose FROM l
                UNION SELECT v.oid, v.oid::regclass
                FROM l JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid AND d.classid = 'pg_rewrite'::regclass
                JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
                WHERE v.relkind = 'm' AND NOT starts_with(v.relname, '_rp_')),
         found(line) AS (
         SELECT concat_ws(' ', 'table', whose, c.relkind, CASE WHEN NOT c.relispopulated THEN 'without rows' END, c.relpersistence, am.amname, ts.spcname, 'owner', pg_get_userbyid(c.relowner),
                array_to_string(c.reloptions, ','), 'toast', array_to_string(t.reloptions, ','), 'identity', c.relreplident,
                'rls', c.relrowsecurity, c.relforcerowsecurity, 'acl', {table_acl}, obj_description(c.oid, 'pg_class'))
         FROM lm AS l JOIN pg_class c ON c.oid = l.oid LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
         LEFT JOIN pg_am am ON am.oid = c.relam LEFT JOIN pg_tablespace ts ON ts.oid = c.reltablespace
         UNION ALL
         SELECT concat_ws(' ', 'column', whose, to_char(row_number() OVER (PARTITION BY l.oid ORDER BY a.attnum), 'FM000'), quote_ident(a.attname),
                format_type(a.atttypid, a.atttypmod), 'collate ' || nullif(a.attcollation, 0)::regcollation::text,
                CASE WHEN a.attnotnull THEN 'not null' END, 'identity ' || nullif(a.attidentity::text, ''),
                'generated ' || nullif(a.attgenerated::text, ''), 'default ' || pg_get_expr(d.adbin, d.adrelid),
                a.attstorage, nullif(a.attcompression::text, ''), 'statistics ' || nullif(a.attstattarget, -1),
                (SELECT string_agg(o, ',' ORDER BY o) FROM unnest(a.attoptions) AS o WHERE o NOT LIKE 'pg\\_attver=%'),
                'acl ' || (SELECT string_agg(x::text, ',' ORDER BY x::text) FROM unnest(a.attacl) AS x),
                col_description(a.attrelid, a.attnum))
         FROM lm AS l JOIN pg_attribute a ON a.attrelid = l.oid AND a.attnum > 0 AND NOT a.attisdropped
         LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         UNION ALL
         SELECT concat_ws(' ', 'constraint', quote_ident(o.conname), 'on', o.conrelid::regclass, o.contype,
                pg_get_constraintdef(o.oid), CASE WHEN NOT o.convalidated THEN 'not valid' END,
                obj_description(o.oid, 'pg_constraint'))
         FROM l, pg_constraint o WHERE l.oid IN (o.conrelid, o.confrelid)
         UNION ALL
         SELECT concat_ws(' ', 'index', pg_get_indexdef(i.indexrelid), CASE WHEN NOT i.indisvalid THEN 'not valid' END,
                CASE WHEN i.indisclustered THEN 'clustered' END, CASE WHEN i.indisreplident THEN 'replica identity' END,
                'owner', pg_get_userbyid(c.relowner), ts.spcname, obj_description(c.oid, 'pg_class'),
                'statistics ' || (SELECT string_agg(a.attnum || ':' || a.attstattarget, ',') FROM pg_attribute a
                                  WHERE a.attrelid = c.oid AND nullif(a.attstattarget, -1) IS NOT NULL))
         FROM lm AS l JOIN pg_index i ON i.indrelid = l.oid JOIN pg_class c ON c.oid = i.indexrelid
         LEFT JOIN pg_tablespace ts ON ts.oid = c.reltablespace
         UNION ALL
         SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(t.oid), t.tgenabled, obj_description(t.oid, 'pg_trigger'))
         FROM l JOIN pg_trigger t ON t.tgrelid = l.oid AND NOT t.tgisinternal AND NOT starts_with(t.tgname, '_rp_')
         UNION ALL
         SELECT concat_ws(' ', 'policy', quote_ident(p.polname), p.polcmd, p.polpermissive,
                (SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r) END, ',' ORDER BY r) FROM unnest(p.polroles) AS r),
                pg_get_expr(p.polqual, p.polrelid), 'check ' || pg_get_expr(p.polwithcheck, p.polrelid),
                obj_description(p.oid, 'pg_policy'))
         FROM l JOIN pg_policy p ON p.polrelid = l.oid
         UNION ALL
         SELECT concat_ws(' ', 'statistics', pg_get_statisticsobjdef(s.oid), nullif(s.stxstattarget, -1),
                'owner', pg_get_userbyid(s.stxowner), obj_description(s.oid, 'pg_statistic_ext'))
         FROM lm AS l JOIN pg_statistic_ext s ON s.stxrelid = l.oid
         UNION ALL
         SELECT concat_ws(' ', 'sequence', q.oid::regclass, d.deptype, 'of', a.attname, format_type(s.seqtypid, NULL), s.seqstart,
                s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle, 'owner', pg_get_userbyid(q.relowner),
                'acl', {sequence_acl}, obj_description(q.oid, 'pg_class'))
         FROM l JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid AND d.classid = 'pg_class'::regclass
         JOIN pg_class q ON q.oid = d.objid AND q.relkind = 'S' JOIN pg_sequence s ON s.seqrelid = q.oid
         JOIN pg_attribute a ON a.attrelid = l.oid AND a.attnum = d.refobjsubid
         UNION ALL
         SELECT 'publication ' || to_jsonb(p)::text FROM l JOIN pg_class c ON c.oid = l.oid JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_publication_tables p ON p.schemaname = n.nspname AND p.tablename = c.relname
         WHERE NOT starts_with(p.pubname, '_rp_')
         UNION ALL
         SELECT DISTINCT concat_ws(' ', 'view', v.oid::regclass, 'owner', pg_get_userbyid(v.relowner),
                array_to_string(v.reloptions, ','), 'acl', {view_acl}, pg_get_viewdef(v.oid), obj_description(v.oid, 'pg_class'),
                (SELECT string_agg(pg_get_triggerdef(t.oid), ';') FROM pg_trigger t WHERE t.tgrelid = v.oid),
                (SELECT string_agg(pg_get_expr(f.adbin, f.adrelid), ';' ORDER BY f.adnum) FROM pg_attrdef f WHERE f.adrelid = v.oid))
         FROM l JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid AND d.classid = 'pg_rewrite'::regclass
         JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
         )
         SELECT line FROM found ORDER BY line",
        table_acl = acl("c.relacl", "r", "c.relowner"),
        sequence_acl = acl("q.relacl", "s", "q.relowner"),
        view_acl = acl("v.relacl", "r", "v.relowner"),
    )
}
