//! Foreign keys of the table, and of others that refer to it.

use super::{Part, part, related};

/// The parts.
pub fn parts() -> Vec<Part> {
    vec![
        part(11, "SELECT 'off', format('ALTER TABLE %s DROP CONSTRAINT %I', o.conrelid::regclass, o.conname)
             FROM l, pg_constraint o WHERE o.contype = 'f' AND l.oid IN (o.conrelid, o.confrelid)"),
        part(40, "SELECT 'on', format('ALTER TABLE %s ADD CONSTRAINT %I %s', o.conrelid::regclass, o.conname,
                    pg_get_constraintdef(o.oid)) || CASE WHEN o.convalidated THEN ' NOT VALID' ELSE '' END
                    || coalesce(format('; COMMENT ON CONSTRAINT %I ON %s IS %L', o.conname, o.conrelid::regclass,
                                       obj_description(o.oid, 'pg_constraint')), '')
             FROM l, pg_constraint o WHERE o.contype = 'f' AND l.oid IN (o.conrelid, o.confrelid)"),
        part(1, "SELECT 'later', format('ALTER TABLE %s VALIDATE CONSTRAINT %I', o.conrelid::regclass, o.conname)
             FROM l, pg_constraint o WHERE o.contype = 'f' AND l.oid IN (o.conrelid, o.confrelid) AND o.convalidated"),
        related("SELECT CASE WHEN o.conrelid = l.oid THEN o.confrelid ELSE o.conrelid END
             FROM l, pg_constraint o WHERE o.contype = 'f' AND l.oid IN (o.conrelid, o.confrelid) AND o.conrelid <> o.confrelid"),
        part(1, "SELECT 'cannot', format('the foreign key %I of the partitioned table %s', o.conname, o.conrelid::regclass)
             FROM l, pg_constraint o JOIN pg_class c ON c.oid IN (o.conrelid, o.confrelid) AND c.relkind = 'p'
             WHERE o.contype = 'f' AND l.oid IN (o.conrelid, o.confrelid) AND c.oid <> l.oid"),
        part(1, "SELECT 'cannot', format('the foreign key %I of %s, which belongs to another login', o.conname,
                    o.conrelid::regclass)
             FROM l, pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
             WHERE o.contype = 'f' AND o.confrelid = l.oid AND NOT pg_has_role(c.relowner, 'USAGE')"),
    ]
}
