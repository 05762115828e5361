//! Policies, and whether they are enforced.

use super::{Part, part};

/// The parts.
pub fn parts() -> Vec<Part> {
    vec![
        part(12, "SELECT 'off', format('DROP POLICY %I ON %s', p.polname, l.name) FROM l, pg_policy p WHERE p.polrelid = l.oid"),
        part(13, "SELECT 'off', format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', l.name)
             FROM l JOIN pg_class c ON c.oid = l.oid WHERE c.relrowsecurity OR c.relforcerowsecurity"),
        part(46, "SELECT 'on', format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', p.polname, l.name,
                    CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                    CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                                  WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                    (SELECT string_agg(CASE WHEN r = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ')
                     FROM unnest(p.polroles) AS r))
                    || coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', '')
                    || coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')
                    || coalesce(format('; COMMENT ON POLICY %I ON %s IS %L', p.polname, l.name,
                                       obj_description(p.oid, 'pg_policy')), '')
             FROM l, pg_policy p WHERE p.polrelid = l.oid"),
        part(47, "SELECT 'on', format('ALTER TABLE %s %s ROW LEVEL SECURITY, %s ROW LEVEL SECURITY', l.name,
                    CASE WHEN c.relrowsecurity THEN 'ENABLE' ELSE 'DISABLE' END,
                    CASE WHEN c.relforcerowsecurity THEN 'FORCE' ELSE 'NO FORCE' END)
             FROM l JOIN pg_class c ON c.oid = l.oid WHERE c.relrowsecurity OR c.relforcerowsecurity"),
        part(1, "SELECT 'cannot', format('the policy %I on %s', p.polname, p.polrelid::regclass)
             FROM l, pg_depend d JOIN pg_policy p ON p.oid = d.objid
             WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND p.polrelid <> l.oid"),
    ]
}
