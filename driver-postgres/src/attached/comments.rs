//! Comments.

use super::{Part, naming, part};

/// The parts.
pub fn parts() -> Vec<Part> {
    vec![
        part(33, "SELECT 'on', format('COMMENT ON TABLE %s IS %L', l.name, obj_description(l.oid, 'pg_class')) FROM l
             WHERE obj_description(l.oid, 'pg_class') IS DISTINCT FROM
                   (SELECT obj_description(i.oid, 'pg_class') FROM i)"),
        part(34, "SELECT 'on', format('COMMENT ON COLUMN %s.%I IS %L', l.name, b.attname, col_description(l.oid, a.attnum))
             FROM l JOIN pg_attribute a ON a.attrelid = l.oid AND a.attnum > 0 AND NOT a.attisdropped JOIN i ON true
             JOIN pg_attribute b ON b.attrelid = i.oid AND b.attname = a.attname AND NOT b.attisdropped
             WHERE col_description(l.oid, a.attnum) IS DISTINCT FROM col_description(i.oid, b.attnum)"),
        naming(35, "SELECT 'on', format('COMMENT ON CONSTRAINT %I ON %s IS %L', o.conname, l.name,
                    obj_description(o.oid, 'pg_constraint')), o.conname::text FROM l, pg_constraint o
             WHERE o.conrelid = l.oid AND o.contype NOT IN ('f', 't') AND obj_description(o.oid, 'pg_constraint') IS NOT NULL"),
        naming(36, "SELECT 'on', format('COMMENT ON INDEX %s IS %L', c.oid::regclass, obj_description(c.oid, 'pg_class')), c.relname::text
             FROM l, pg_index x JOIN pg_class c ON c.oid = x.indexrelid
             WHERE x.indrelid = l.oid AND obj_description(c.oid, 'pg_class') IS NOT NULL"),
        part(39, "SELECT 'on', format('COMMENT ON SEQUENCE %s IS %L', q.oid::regclass, obj_description(q.oid, 'pg_class'))
             FROM l, pg_depend d JOIN pg_class q ON q.oid = d.objid AND q.relkind = 'S'
             WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND d.deptype = 'i' AND obj_description(q.oid, 'pg_class') IS NOT NULL"),
    ]
}
