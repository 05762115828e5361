//! Triggers, in the order of their names, as they fire.

use super::{OURS, Part, part};

/// The parts.
pub fn parts() -> Vec<Part> {
    vec![
        part(10, format!(
                "SELECT 'off', format('DROP TRIGGER %I ON %s', t.tgname, l.name) FROM l, pg_trigger t
                 WHERE t.tgrelid = l.oid AND NOT t.tgisinternal AND NOT {OURS}"
            )),
        part(50, format!(
                "SELECT 'on', pg_get_triggerdef(t.oid) || CASE t.tgenabled
                        WHEN 'D' THEN format('; ALTER TABLE %s DISABLE TRIGGER %I', l.name, t.tgname)
                        WHEN 'A' THEN format('; ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', l.name, t.tgname)
                        WHEN 'R' THEN format('; ALTER TABLE %s ENABLE REPLICA TRIGGER %I', l.name, t.tgname) ELSE '' END
                        || coalesce(format('; COMMENT ON TRIGGER %I ON %s IS %L', t.tgname, l.name,
                                           obj_description(t.oid, 'pg_trigger')), '')
                 FROM l, pg_trigger t WHERE t.tgrelid = l.oid AND NOT t.tgisinternal AND NOT {OURS}"
            )),
        part(52, "SELECT 'on', format('COMMENT ON CONSTRAINT %I ON %s IS %L', o.conname, l.name,
                    obj_description(o.oid, 'pg_constraint')) FROM l, pg_constraint o
             WHERE o.conrelid = l.oid AND o.contype = 't' AND obj_description(o.oid, 'pg_constraint') IS NOT NULL"),
    ]
}
