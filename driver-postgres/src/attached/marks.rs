//! Sequences, statistics, and what marks an index of the table.

use super::publications::columns;
use super::{Part, naming, part};

/// The parts.
pub fn parts() -> Vec<Part> {
    vec![
        naming(37, "SELECT 'on', format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS %s', c.oid::regclass, a.attnum, a.attstattarget),
                    c.relname::text
             FROM l, pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_attribute a ON a.attrelid = c.oid
             WHERE x.indrelid = l.oid AND nullif(a.attstattarget, -1) IS NOT NULL AND a.attnum > 0
             AND x.indkey[a.attnum - 1] = 0"),
        // A serial column's sequence goes with its table.
        part(20, "SELECT 'on', format('ALTER SEQUENCE %s OWNED BY %s.%I', q.oid::regclass, l.name, a.attname)
             FROM l, pg_depend d JOIN pg_class q ON q.oid = d.objid AND q.relkind = 'S'
             JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid JOIN i ON true
             JOIN pg_attribute b ON b.attrelid = i.oid AND b.attname = a.attname AND NOT b.attisdropped
             WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND d.deptype = 'a'"),
        naming(48, "SELECT 'on', format('ALTER TABLE %s REPLICA IDENTITY %s', l.name, CASE c.relreplident
                    WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING' WHEN 'd' THEN 'DEFAULT'
                    ELSE 'USING INDEX ' || quote_ident((SELECT x.relname FROM pg_index n JOIN pg_class x ON x.oid = n.indexrelid
                                                        WHERE n.indrelid = l.oid AND n.indisreplident)) END),
                    (SELECT x.relname::text FROM pg_index n JOIN pg_class x ON x.oid = n.indexrelid
                     WHERE n.indrelid = l.oid AND n.indisreplident)
             FROM l JOIN pg_class c ON c.oid = l.oid JOIN i ON true JOIN pg_class ic ON ic.oid = i.oid
             WHERE c.relreplident <> 'd' OR ic.relreplident <> 'd'"),
        naming(49, "SELECT 'on', format('ALTER TABLE %s CLUSTER ON %I', l.name, x.relname), x.relname::text
             FROM l, pg_index n JOIN pg_class x ON x.oid = n.indexrelid WHERE n.indrelid = l.oid AND n.indisclustered"),
        part(14, "SELECT 'off', format('DROP STATISTICS %I.%I', n.nspname, s.stxname)
             FROM l, pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE s.stxrelid = l.oid"),
        part(51, "SELECT 'on', pg_get_statisticsobjdef(s.oid)
                    || format('; ALTER STATISTICS %I.%I OWNER TO %I', n.nspname, s.stxname, pg_get_userbyid(s.stxowner))
                    || CASE WHEN nullif(s.stxstattarget, -1) IS NOT NULL
                            THEN format('; ALTER STATISTICS %I.%I SET STATISTICS %s', n.nspname, s.stxname, s.stxstattarget)
                            ELSE '' END
                    || coalesce(format('; COMMENT ON STATISTICS %I.%I IS %L', n.nspname, s.stxname,
                                       obj_description(s.oid, 'pg_statistic_ext')), '')
             FROM l, pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE s.stxrelid = l.oid"),
        part(2, "SELECT 'later', format('ANALYZE %s', l.name) FROM l
             WHERE EXISTS (SELECT FROM pg_statistic_ext s WHERE s.stxrelid = l.oid)"),
        part(1, format!(
            "SELECT 'cannot', format('the replica identity, which is the index %I', x.relname)
             FROM l JOIN pg_class c ON c.oid = l.oid AND c.relreplident = 'i' CROSS JOIN i
             JOIN pg_index o ON o.indrelid = l.oid AND o.indisreplident JOIN pg_class x ON x.oid = o.indexrelid
             WHERE i.oid <> l.oid AND NOT EXISTS (
                 SELECT FROM pg_index n JOIN pg_class y ON y.oid = n.indexrelid
                 WHERE n.indrelid = i.oid AND n.indisunique AND n.indpred IS NULL AND n.indexprs IS NULL
                 AND (y.relname = x.relname OR starts_with(y.relname, '_rp_')) AND {} = {})",
            columns("n"),
            columns("o")
        )),
    ]
}
