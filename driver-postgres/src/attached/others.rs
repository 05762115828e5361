//! What cannot follow.

use super::{Part, part};

/// The parts.
pub fn parts() -> Vec<Part> {
    vec![
        // What the server's own ALTER would drop along with a column, or refuse: it would be missing on the way back.
        part(1, "SELECT 'cannot', format('the foreign key %I, which column %I is a part of', o.conname, a.attname)
             FROM l, i, pg_constraint o
             JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = ANY (o.conkey)
                                 OR a.attrelid = o.confrelid AND a.attnum = ANY (o.confkey)
             WHERE o.contype = 'f' AND a.attrelid = l.oid AND i.oid <> l.oid
             AND NOT EXISTS (SELECT FROM pg_attribute b WHERE b.attrelid = i.oid AND b.attname = a.attname AND NOT b.attisdropped)
             UNION ALL
             SELECT 'cannot', format('%s, which uses column %I', pg_describe_object(d.classid, d.objid, 0), a.attname)
             FROM l, i, pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
             WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid AND i.oid <> l.oid
             AND d.classid IN ('pg_trigger'::regclass, 'pg_policy'::regclass, 'pg_statistic_ext'::regclass, 'pg_publication_rel'::regclass)
             AND NOT EXISTS (SELECT FROM pg_attribute b WHERE b.attrelid = i.oid AND b.attname = a.attname AND NOT b.attisdropped)"),
        part(1, "SELECT 'cannot', 'a security label' FROM l
             WHERE EXISTS (SELECT FROM pg_seclabel s WHERE s.classoid = 'pg_class'::regclass AND s.objoid = l.oid)"),
        part(1, "SELECT DISTINCT 'cannot', pg_describe_object(d.classid, d.objid, d.objsubid) || ', which uses the type of its rows'
             FROM l JOIN pg_class c ON c.oid = l.oid JOIN pg_type t ON t.oid = c.reltype
             JOIN pg_depend d ON d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.oid, t.typarray) AND d.deptype <> 'i'"),
        part(1, "SELECT DISTINCT 'cannot', pg_describe_object(d.classid, d.objid, d.objsubid)
             FROM l JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             WHERE d.classid NOT IN ('pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_rewrite'::regclass,
                   'pg_trigger'::regclass, 'pg_policy'::regclass, 'pg_class'::regclass, 'pg_statistic_ext'::regclass,
                   'pg_type'::regclass, 'pg_publication_rel'::regclass)"),
        part(1, "SELECT 'cannot', pg_describe_object(d.refclassid, d.refobjid, 0) || ', of which the table is a part'
             FROM l JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = l.oid AND d.deptype = 'e'"),
        part(1, "SELECT 'cannot', format('constraint %I, which is NOT VALID', o.conname) FROM l, pg_constraint o
             WHERE o.conrelid = l.oid AND o.contype IN ('c', 'n') AND NOT o.convalidated"),
    ]
}
