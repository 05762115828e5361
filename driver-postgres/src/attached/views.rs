//! Views keep their number, and so everything that hangs on them.

use super::{Part, part};

/// The parts.
pub fn parts() -> Vec<Part> {
    vec![
        part(45, "SELECT DISTINCT 'on', format('CREATE OR REPLACE VIEW %s%s AS %s', v.oid::regclass,
                    ' WITH (' || array_to_string(v.reloptions, ', ') || ')', pg_get_viewdef(v.oid))
             FROM l, pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
             WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND v.relkind = 'v'"),
        part(1, "SELECT DISTINCT 'related', v.oid::text
             FROM l, pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
             WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND v.relkind = 'v'"),
        part(1, "SELECT DISTINCT 'cannot', format('%s %s', CASE v.relkind WHEN 'm' THEN 'the materialized view'
                    ELSE 'a rule on' END, v.oid::regclass)
             FROM l, pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
             WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND (v.relkind <> 'v' OR w.rulename <> '_RETURN')"),
        part(1, "SELECT DISTINCT 'cannot', format('the view %s, which belongs to another login', v.oid::regclass)
             FROM l, pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
             WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND v.relkind = 'v' AND NOT pg_has_role(v.relowner, 'USAGE')"),
        // A view that would get other columns cannot be replaced.
        part(1, "SELECT DISTINCT 'cannot', format('the view %s, which shows column %I', v.oid::regclass, a.attname)
             FROM l, pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
             JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
             LEFT JOIN i ON true
             LEFT JOIN pg_attribute b ON b.attrelid = i.oid AND b.attname = a.attname AND NOT b.attisdropped
             WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND v.relkind = 'v' AND (b.atttypid, b.atttypmod, b.attcollation)
                 IS DISTINCT FROM (a.atttypid, a.atttypmod, a.attcollation)"),
    ]
}
