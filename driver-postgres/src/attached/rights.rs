//! Who may do what.

use super::{Part, part};

/// The parts.
pub fn parts() -> Vec<Part> {
    vec![
        part(15, "SELECT 'off', format('REVOKE ALL ON %s FROM %s CASCADE', l.name,
                    CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END)
             FROM l JOIN pg_class c ON c.oid = l.oid CROSS JOIN LATERAL (
                 SELECT a.grantee FROM aclexplode(c.relacl) AS a
                 UNION SELECT a.grantee FROM pg_attribute t CROSS JOIN LATERAL aclexplode(t.attacl) AS a
                 WHERE t.attrelid = l.oid AND NOT t.attisdropped) AS g WHERE g.grantee <> c.relowner"),
        // Who may do what.
        part(30, "SELECT 'on', format('REVOKE ALL ON %s FROM %s CASCADE', l.name,
                    CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END)
             FROM l, i JOIN pg_class c ON c.oid = i.oid CROSS JOIN LATERAL aclexplode(c.relacl) AS a
             JOIN pg_class lc ON true WHERE lc.oid = l.oid AND lc.relacl IS DISTINCT FROM c.relacl
             GROUP BY l.name, a.grantee"),
        part(31, "SELECT 'on', format('%sGRANT %s ON %s TO %s%s%s',
                    CASE WHEN a.grantor <> c.relowner THEN format('SET LOCAL ROLE %I; ', pg_get_userbyid(a.grantor)) END,
                    string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), l.name,
                    CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                    CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END,
                    CASE WHEN a.grantor <> c.relowner THEN '; RESET ROLE' END)
             FROM l JOIN pg_class c ON c.oid = l.oid JOIN i ON true JOIN pg_class ic ON ic.oid = i.oid
             CROSS JOIN LATERAL aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
             WHERE ic.relacl IS DISTINCT FROM c.relacl
             GROUP BY l.name, c.relowner, a.grantor, a.grantee, a.is_grantable"),
        part(32, "SELECT 'on', format('REVOKE %s ON %s FROM %I', d.privilege_type, l.name, pg_get_userbyid(c.relowner))
             FROM l JOIN pg_class c ON c.oid = l.oid CROSS JOIN LATERAL aclexplode(acldefault('r', c.relowner)) AS d
             WHERE c.relacl IS NOT NULL AND NOT EXISTS (
                 SELECT FROM aclexplode(c.relacl) AS a WHERE a.grantee = c.relowner AND a.privilege_type = d.privilege_type)"),
        part(1, "SELECT DISTINCT 'cannot', format('what %I has granted', pg_get_userbyid(a.grantor))
             FROM l JOIN pg_class c ON c.oid = l.oid CROSS JOIN LATERAL aclexplode(c.relacl) AS a
             WHERE a.grantor <> c.relowner AND NOT pg_has_role(a.grantor, 'MEMBER')"),
        part(33, "SELECT 'on', format('GRANT %s (%I) ON %s TO %s%s', a.privilege_type, t.attname, l.name,
                    CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                    CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
             FROM l JOIN pg_attribute t ON t.attrelid = l.oid AND NOT t.attisdropped JOIN i ON true
             JOIN pg_attribute b ON b.attrelid = i.oid AND b.attname = t.attname AND NOT b.attisdropped
             CROSS JOIN LATERAL aclexplode(t.attacl) AS a"),
        // The sequence of an identity column is another one, under the same name.
        part(38, "SELECT 'on', format('GRANT %s ON SEQUENCE %s TO %s%s', a.privilege_type, q.oid::regclass,
                    CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                    CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
             FROM l, pg_depend d JOIN pg_class q ON q.oid = d.objid AND q.relkind = 'S' CROSS JOIN LATERAL aclexplode(q.relacl) AS a
             WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND d.deptype = 'i'"),
    ]
}
