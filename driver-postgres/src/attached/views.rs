//! Views keep their number, and so everything that hangs on them, where their columns stay what they are. Others, and all
//! views on top of them, are made anew with what hung on them.

use super::{Part, part, related};

/// Views that are made anew, as a part of a recursive WITH: those that show a column whose type becomes another one, and
/// all that are on top of them, each as deep as it is.
pub const GONE: &str = "gone_at AS (
         SELECT v.oid, 1 AS depth
         FROM l, i, pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
         JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
         JOIN pg_attribute b ON b.attrelid = (SELECT oid FROM i) AND b.attname = a.attname AND NOT b.attisdropped
         WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid AND v.relkind = 'v'
         AND w.rulename = '_RETURN' AND (b.atttypid, b.atttypmod, b.attcollation) IS DISTINCT FROM (a.atttypid, a.atttypmod, a.attcollation)
         UNION
         SELECT v.oid, g.depth + 1
         FROM gone_at g JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = g.oid AND d.classid = 'pg_rewrite'::regclass
         JOIN pg_rewrite w ON w.oid = d.objid AND w.rulename = '_RETURN'
         JOIN pg_class v ON v.oid = w.ev_class AND v.relkind = 'v' AND v.oid <> g.oid),
     gone AS (SELECT v.oid, v.oid::regclass::text AS name, max(g.depth) AS depth, v.relowner, v.relacl, v.reloptions
              FROM gone_at g JOIN pg_class v USING (oid) GROUP BY v.oid)";

/// The parts.
pub fn parts() -> Vec<Part> {
    let mut all = kept();
    all.extend(made_anew());
    all
}

/// Views that are only told of the other table.
fn kept() -> Vec<Part> {
    vec![
        part(45, "SELECT DISTINCT 'on', format('CREATE OR REPLACE VIEW %s%s AS %s', v.oid::regclass,
                    ' WITH (' || array_to_string(v.reloptions, ', ') || ')', pg_get_viewdef(v.oid))
             FROM changing l, pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
             WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND v.relkind = 'v' AND v.oid NOT IN (SELECT oid FROM gone)"),
        related("SELECT v.oid
             FROM changing l, pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
             WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND v.relkind = 'v'
             UNION SELECT oid FROM gone"),
        part(1, "SELECT DISTINCT 'cannot', format('a rule on %s', v.oid::regclass)
             FROM l, pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
             WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND (v.relkind NOT IN ('v', 'm') OR w.rulename <> '_RETURN')"),
        part(1, "SELECT DISTINCT 'cannot', format('the view %s, which belongs to another login', v.oid::regclass)
             FROM changing l, pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
             WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND v.relkind = 'v' AND NOT pg_has_role(v.relowner, 'USAGE')
             UNION SELECT 'cannot', format('the view %s, which belongs to another login', name) FROM gone
             WHERE NOT pg_has_role(relowner, 'USAGE')"),
        part(1, "SELECT DISTINCT 'cannot', format('the %sview %s, which shows column %I', CASE v.relkind WHEN 'm' THEN 'materialized ' END,
                    v.oid::regclass, a.attname)
             FROM l, i, pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
             JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
             WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND v.relkind IN ('v', 'm')
             AND NOT EXISTS (SELECT FROM pg_attribute b WHERE b.attrelid = i.oid AND b.attname = a.attname AND NOT b.attisdropped)"),
    ]
}

/// Views that go with the columns that they show, and come again with their own.
fn made_anew() -> Vec<Part> {
    vec![
        part(9, "SELECT 'off', 'DROP VIEW ' || string_agg(name, ', ' ORDER BY name) FROM gone HAVING count(*) > 0"),
        // One statement of them all: each is made after those that it is on top of.
        part(43, "SELECT 'on', string_agg(format('CREATE VIEW %s%s AS %s; ALTER VIEW %s OWNER TO %I', name,
                    ' WITH (' || array_to_string(reloptions, ', ') || ')', rtrim(pg_get_viewdef(oid), ';'), name,
                    pg_get_userbyid(relowner)), '; ' ORDER BY depth, name) FROM gone HAVING count(*) > 0"),
        // What default privileges have given to others meanwhile.
        part(44, "SELECT 'closed', name FROM gone"),
        part(45, "SELECT 'on', format('GRANT %s ON %s TO %s%s', string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), name,
                    CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                    CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
             FROM gone CROSS JOIN LATERAL aclexplode(relacl) AS a WHERE a.grantee <> relowner
             GROUP BY name, a.grantee, a.is_grantable"),
        part(45, "SELECT 'on', format('GRANT %s (%I) ON %s TO %s%s', a.privilege_type, t.attname, name,
                    CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                    CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
             FROM gone g JOIN pg_attribute t ON t.attrelid = g.oid CROSS JOIN LATERAL aclexplode(t.attacl) AS a"),
        part(45, "SELECT 'on', format('REVOKE %s ON %s FROM %I', d.privilege_type, name, pg_get_userbyid(relowner))
             FROM gone CROSS JOIN LATERAL aclexplode(acldefault('r', relowner)) AS d
             WHERE relacl IS NOT NULL AND NOT EXISTS (
                 SELECT FROM aclexplode(relacl) AS a WHERE a.grantee = relowner AND a.privilege_type = d.privilege_type)"),
        part(45, "SELECT 'on', format('ALTER VIEW %s ALTER COLUMN %I SET DEFAULT %s', name, a.attname, pg_get_expr(d.adbin, d.adrelid))
             FROM gone g JOIN pg_attrdef d ON d.adrelid = g.oid
             JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum"),
        part(45, "SELECT 'on', pg_get_triggerdef(t.oid) || coalesce(format('; COMMENT ON TRIGGER %I ON %s IS %L', t.tgname, name,
                    obj_description(t.oid, 'pg_trigger')), '')
             FROM gone g JOIN pg_trigger t ON t.tgrelid = g.oid AND NOT t.tgisinternal"),
        part(45, "SELECT 'on', format('COMMENT ON VIEW %s IS %L', name, obj_description(oid, 'pg_class')) FROM gone
             WHERE obj_description(oid, 'pg_class') IS NOT NULL
             UNION ALL
             SELECT 'on', format('COMMENT ON COLUMN %s.%I IS %L', name, a.attname, col_description(g.oid, a.attnum))
             FROM gone g JOIN pg_attribute a ON a.attrelid = g.oid AND a.attnum > 0
             WHERE col_description(g.oid, a.attnum) IS NOT NULL"),
        part(1, "SELECT DISTINCT 'cannot', format('%s, which uses the view %s', pg_describe_object(d.classid, d.objid, d.objsubid), g.name)
             FROM gone g JOIN pg_class c ON c.oid = g.oid LEFT JOIN pg_type t ON t.oid = c.reltype
             JOIN pg_depend d ON d.deptype = 'n' AND (d.refclassid = 'pg_class'::regclass AND d.refobjid = g.oid
                                                   OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.oid, t.typarray))
             LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid AND w.rulename = '_RETURN'
             WHERE w.ev_class IS NULL OR w.ev_class NOT IN (SELECT oid FROM gone)
             UNION
             SELECT 'cannot', format('a rule on the view %s', g.name) FROM gone g JOIN pg_rewrite w ON w.ev_class = g.oid
             WHERE w.rulename <> '_RETURN'
             UNION
             SELECT 'cannot', format('what others than its owner have granted on the view %s', g.name)
             FROM gone g LEFT JOIN pg_attribute t ON t.attrelid = g.oid
             CROSS JOIN LATERAL (SELECT grantor FROM aclexplode(g.relacl) UNION SELECT grantor FROM aclexplode(t.attacl)) AS a
             WHERE a.grantor <> g.relowner
             UNION
             SELECT 'cannot', format('%s, of which the view %s is a part', pg_describe_object(d.refclassid, d.refobjid, 0), g.name)
             FROM gone g JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = g.oid AND d.deptype = 'e'
             UNION
             SELECT 'cannot', format('a security label on the view %s', g.name) FROM gone g
             WHERE EXISTS (SELECT FROM pg_seclabel s WHERE s.classoid = 'pg_class'::regclass AND s.objoid = g.oid)"),
    ]
}
