//! What hangs on a table and has to follow its name: triggers, foreign keys both ways, views, policies, grants, comments,
//! sequences, marks. Read as the statements that take it off the one table and put it on the other, so that what was read
//! before the lock can be held against what is there under it.

use std::collections::BTreeSet;

use replank_core::{Error, ErrorKind, Result};

use crate::connect::Conn;
use crate::sql::{get, rows};

/// What hangs on a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attached {
    /// Takes it off, in front of the renames.
    pub off: Vec<String>,
    /// Puts it on the table that has the name then.
    pub on: Vec<String>,
    /// What may take long and needs no lock that others wait for, after the swap.
    pub later: Vec<String>,
    /// Numbers of other tables that the statements lock.
    pub related: Vec<i64>,
    /// What cannot follow, and why.
    pub cannot: Vec<String>,
}

impl Attached {
    /// Reads what hangs on `live`, for a swap that puts `incoming` in its place, which has these indexes and constraints:
    /// what is said of others does not follow.
    pub async fn read(
        connection: &mut Conn,
        live: i64,
        incoming: Option<i64>,
        names: Option<&BTreeSet<String>>,
    ) -> Result<Self> {
        let sql = format!(
            "SET LOCAL search_path = ''; {}; SET LOCAL search_path TO DEFAULT",
            query(live, incoming.unwrap_or(live))
        );
        let mut attached = Self::default();
        for row in rows(connection, sql).await? {
            let (kind, statement): (String, String) = (get(&row, 0)?, get(&row, 1)?);
            let needs: Option<String> = get(&row, 2)?;
            if needs.is_some_and(|name| names.is_some_and(|names| !names.contains(&name))) {
                continue;
            }
            match kind.as_str() {
                "off" => attached.off.push(statement),
                "on" => attached.on.push(statement),
                "later" => attached.later.push(statement),
                "cannot" => attached.cannot.push(statement),
                "related" => attached.related.push(statement.parse().map_err(|_| {
                    Error::new(ErrorKind::Internal, "a table's number is none").with("it is", &statement)
                })?),
                _ => {}
            }
        }
        attached.related.sort_unstable();
        attached.related.dedup();
        Ok(attached)
    }
}

/// A trigger `t` of ours.
const OURS: &str = "starts_with(t.tgname, '_rp_')";

/// Places whose parts name the index or constraint that they need.
const NEEDING: [u32; 5] = [35, 36, 37, 48, 49];

#[allow(clippy::too_many_lines, reason = "one line a thing that may hang on a table")]
fn query(live: i64, incoming: i64) -> String {
    let parts: Vec<(u32, String)> = vec![
        // Triggers, in the order of their names, as they fire.
        (
            10,
            format!(
                "SELECT 'off', format('DROP TRIGGER %I ON %s', t.tgname, l.name) FROM l, pg_trigger t
                 WHERE t.tgrelid = l.oid AND NOT t.tgisinternal AND NOT {OURS}"
            ),
        ),
        (
            50,
            format!(
                "SELECT 'on', pg_get_triggerdef(t.oid) || CASE t.tgenabled
                        WHEN 'D' THEN format('; ALTER TABLE %s DISABLE TRIGGER %I', l.name, t.tgname)
                        WHEN 'A' THEN format('; ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', l.name, t.tgname)
                        WHEN 'R' THEN format('; ALTER TABLE %s ENABLE REPLICA TRIGGER %I', l.name, t.tgname) ELSE '' END
                        || coalesce(format('; COMMENT ON TRIGGER %I ON %s IS %L', t.tgname, l.name,
                                           obj_description(t.oid, 'pg_trigger')), '')
                 FROM l, pg_trigger t WHERE t.tgrelid = l.oid AND NOT t.tgisinternal AND NOT {OURS}"
            ),
        ),
        // Foreign keys of the table, and of others that refer to it.
        (
            11,
            "SELECT 'off', format('ALTER TABLE %s DROP CONSTRAINT %I', o.conrelid::regclass, o.conname)
             FROM l, pg_constraint o WHERE o.contype = 'f' AND l.oid IN (o.conrelid, o.confrelid)"
                .to_owned(),
        ),
        (
            40,
            "SELECT 'on', format('ALTER TABLE %s ADD CONSTRAINT %I %s', o.conrelid::regclass, o.conname,
                    pg_get_constraintdef(o.oid)) || CASE WHEN o.convalidated THEN ' NOT VALID' ELSE '' END
                    || coalesce(format('; COMMENT ON CONSTRAINT %I ON %s IS %L', o.conname, o.conrelid::regclass,
                                       obj_description(o.oid, 'pg_constraint')), '')
             FROM l, pg_constraint o WHERE o.contype = 'f' AND l.oid IN (o.conrelid, o.confrelid)"
                .to_owned(),
        ),
        (
            1,
            "SELECT 'later', format('ALTER TABLE %s VALIDATE CONSTRAINT %I', o.conrelid::regclass, o.conname)
             FROM l, pg_constraint o WHERE o.contype = 'f' AND l.oid IN (o.conrelid, o.confrelid) AND o.convalidated"
                .to_owned(),
        ),
        (
            1,
            "SELECT 'related', CASE WHEN o.conrelid = l.oid THEN o.confrelid ELSE o.conrelid END::text
             FROM l, pg_constraint o WHERE o.contype = 'f' AND l.oid IN (o.conrelid, o.confrelid) AND o.conrelid <> o.confrelid"
                .to_owned(),
        ),
        (
            1,
            "SELECT 'cannot', format('the foreign key %I of the partitioned table %s', o.conname, o.conrelid::regclass)
             FROM l, pg_constraint o JOIN pg_class c ON c.oid IN (o.conrelid, o.confrelid) AND c.relkind = 'p'
             WHERE o.contype = 'f' AND l.oid IN (o.conrelid, o.confrelid)"
                .to_owned(),
        ),
        // Views keep their number, and so everything that hangs on them.
        (
            45,
            "SELECT DISTINCT 'on', format('CREATE OR REPLACE VIEW %s%s AS %s', v.oid::regclass,
                    ' WITH (' || array_to_string(v.reloptions, ', ') || ')', pg_get_viewdef(v.oid))
             FROM l, pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
             WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND v.relkind = 'v'"
                .to_owned(),
        ),
        (
            1,
            "SELECT DISTINCT 'related', v.oid::text
             FROM l, pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
             WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND v.relkind = 'v'"
                .to_owned(),
        ),
        (
            1,
            "SELECT DISTINCT 'cannot', format('%s %s', CASE v.relkind WHEN 'm' THEN 'the materialized view'
                    ELSE 'a rule on' END, v.oid::regclass)
             FROM l, pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
             WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND (v.relkind <> 'v' OR w.rulename <> '_RETURN')"
                .to_owned(),
        ),
        (
            1,
            "SELECT DISTINCT 'cannot', format('the view %s, which belongs to another login', v.oid::regclass)
             FROM l, pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
             WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND v.relkind = 'v' AND NOT pg_has_role(v.relowner, 'USAGE')
             UNION ALL
             SELECT 'cannot', format('the foreign key %I of %s, which belongs to another login', o.conname,
                    o.conrelid::regclass)
             FROM l, pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
             WHERE o.contype = 'f' AND o.confrelid = l.oid AND NOT pg_has_role(c.relowner, 'USAGE')"
                .to_owned(),
        ),
        // A view that would get other columns cannot be replaced.
        (
            1,
            "SELECT DISTINCT 'cannot', format('the view %s, which shows column %I', v.oid::regclass, a.attname)
             FROM l, pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
             JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
             LEFT JOIN i ON true
             LEFT JOIN pg_attribute b ON b.attrelid = i.oid AND b.attname = a.attname AND NOT b.attisdropped
             WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND v.relkind = 'v' AND (b.atttypid, b.atttypmod, b.attcollation)
                 IS DISTINCT FROM (a.atttypid, a.atttypmod, a.attcollation)"
                .to_owned(),
        ),
        // Policies.
        (
            12,
            "SELECT 'off', format('DROP POLICY %I ON %s', p.polname, l.name) FROM l, pg_policy p WHERE p.polrelid = l.oid"
                .to_owned(),
        ),
        (
            13,
            "SELECT 'off', format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', l.name)
             FROM l JOIN pg_class c ON c.oid = l.oid WHERE c.relrowsecurity OR c.relforcerowsecurity"
                .to_owned(),
        ),
        (
            46,
            "SELECT 'on', format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', p.polname, l.name,
                    CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                    CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                                  WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                    (SELECT string_agg(CASE WHEN r = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ')
                     FROM unnest(p.polroles) AS r))
                    || coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', '')
                    || coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')
                    || coalesce(format('; COMMENT ON POLICY %I ON %s IS %L', p.polname, l.name,
                                       obj_description(p.oid, 'pg_policy')), '')
             FROM l, pg_policy p WHERE p.polrelid = l.oid"
                .to_owned(),
        ),
        (
            47,
            "SELECT 'on', format('ALTER TABLE %s %s ROW LEVEL SECURITY, %s ROW LEVEL SECURITY', l.name,
                    CASE WHEN c.relrowsecurity THEN 'ENABLE' ELSE 'DISABLE' END,
                    CASE WHEN c.relforcerowsecurity THEN 'FORCE' ELSE 'NO FORCE' END)
             FROM l JOIN pg_class c ON c.oid = l.oid WHERE c.relrowsecurity OR c.relforcerowsecurity"
                .to_owned(),
        ),
        (
            1,
            "SELECT 'cannot', format('the policy %I on %s', p.polname, p.polrelid::regclass)
             FROM l, pg_depend d JOIN pg_policy p ON p.oid = d.objid
             WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND p.polrelid <> l.oid"
                .to_owned(),
        ),
        // What the server's own ALTER would drop along with a column, or refuse: it would be missing on the way back.
        (
            1,
            "SELECT 'cannot', format('the foreign key %I, which column %I is a part of', o.conname, a.attname)
             FROM l, i, pg_constraint o
             JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = ANY (o.conkey)
                                 OR a.attrelid = o.confrelid AND a.attnum = ANY (o.confkey)
             WHERE o.contype = 'f' AND a.attrelid = l.oid AND i.oid <> l.oid
             AND NOT EXISTS (SELECT FROM pg_attribute b WHERE b.attrelid = i.oid AND b.attname = a.attname AND NOT b.attisdropped)
             UNION ALL
             SELECT 'cannot', format('%s, which uses column %I', pg_describe_object(d.classid, d.objid, 0), a.attname)
             FROM l, i, pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
             WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid AND i.oid <> l.oid
             AND d.classid IN ('pg_trigger'::regclass, 'pg_policy'::regclass, 'pg_statistic_ext'::regclass)
             AND NOT EXISTS (SELECT FROM pg_attribute b WHERE b.attrelid = i.oid AND b.attname = a.attname AND NOT b.attisdropped)"
                .to_owned(),
        ),
        (
            15,
            "SELECT 'off', format('REVOKE ALL ON %s FROM %s CASCADE', l.name,
                    CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END)
             FROM l JOIN pg_class c ON c.oid = l.oid CROSS JOIN LATERAL (
                 SELECT a.grantee FROM aclexplode(c.relacl) AS a
                 UNION SELECT a.grantee FROM pg_attribute t CROSS JOIN LATERAL aclexplode(t.attacl) AS a
                 WHERE t.attrelid = l.oid AND NOT t.attisdropped) AS g WHERE g.grantee <> c.relowner"
                .to_owned(),
        ),
        // Who may do what.
        (
            30,
            "SELECT 'on', format('REVOKE ALL ON %s FROM %s CASCADE', l.name,
                    CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END)
             FROM l, i JOIN pg_class c ON c.oid = i.oid CROSS JOIN LATERAL aclexplode(c.relacl) AS a
             JOIN pg_class lc ON true WHERE lc.oid = l.oid AND lc.relacl IS DISTINCT FROM c.relacl
             GROUP BY l.name, a.grantee"
                .to_owned(),
        ),
        (
            31,
            "SELECT 'on', format('%sGRANT %s ON %s TO %s%s%s',
                    CASE WHEN a.grantor <> c.relowner THEN format('SET LOCAL ROLE %I; ', pg_get_userbyid(a.grantor)) END,
                    string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), l.name,
                    CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                    CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END,
                    CASE WHEN a.grantor <> c.relowner THEN '; RESET ROLE' END)
             FROM l JOIN pg_class c ON c.oid = l.oid JOIN i ON true JOIN pg_class ic ON ic.oid = i.oid
             CROSS JOIN LATERAL aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
             WHERE ic.relacl IS DISTINCT FROM c.relacl
             GROUP BY l.name, c.relowner, a.grantor, a.grantee, a.is_grantable"
                .to_owned(),
        ),
        (
            32,
            "SELECT 'on', format('REVOKE %s ON %s FROM %I', d.privilege_type, l.name, pg_get_userbyid(c.relowner))
             FROM l JOIN pg_class c ON c.oid = l.oid CROSS JOIN LATERAL aclexplode(acldefault('r', c.relowner)) AS d
             WHERE c.relacl IS NOT NULL AND NOT EXISTS (
                 SELECT FROM aclexplode(c.relacl) AS a WHERE a.grantee = c.relowner AND a.privilege_type = d.privilege_type)"
                .to_owned(),
        ),
        (
            1,
            "SELECT DISTINCT 'cannot', format('what %I has granted', pg_get_userbyid(a.grantor))
             FROM l JOIN pg_class c ON c.oid = l.oid CROSS JOIN LATERAL aclexplode(c.relacl) AS a
             WHERE a.grantor <> c.relowner AND NOT pg_has_role(a.grantor, 'MEMBER')"
                .to_owned(),
        ),
        (
            33,
            "SELECT 'on', format('GRANT %s (%I) ON %s TO %s%s', a.privilege_type, t.attname, l.name,
                    CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                    CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
             FROM l JOIN pg_attribute t ON t.attrelid = l.oid AND NOT t.attisdropped JOIN i ON true
             JOIN pg_attribute b ON b.attrelid = i.oid AND b.attname = t.attname AND NOT b.attisdropped
             CROSS JOIN LATERAL aclexplode(t.attacl) AS a"
                .to_owned(),
        ),
        (
            33,
            "SELECT 'on', format('COMMENT ON TABLE %s IS %L', l.name, obj_description(l.oid, 'pg_class')) FROM l
             WHERE obj_description(l.oid, 'pg_class') IS DISTINCT FROM
                   (SELECT obj_description(i.oid, 'pg_class') FROM i)"
                .to_owned(),
        ),
        (
            34,
            "SELECT 'on', format('COMMENT ON COLUMN %s.%I IS %L', l.name, b.attname, col_description(l.oid, a.attnum))
             FROM l JOIN pg_attribute a ON a.attrelid = l.oid AND a.attnum > 0 AND NOT a.attisdropped JOIN i ON true
             JOIN pg_attribute b ON b.attrelid = i.oid AND b.attname = a.attname AND NOT b.attisdropped
             WHERE col_description(l.oid, a.attnum) IS DISTINCT FROM col_description(i.oid, b.attnum)"
                .to_owned(),
        ),
        (
            35,
            "SELECT 'on', format('COMMENT ON CONSTRAINT %I ON %s IS %L', o.conname, l.name,
                    obj_description(o.oid, 'pg_constraint')), o.conname::text FROM l, pg_constraint o
             WHERE o.conrelid = l.oid AND o.contype NOT IN ('f', 't') AND obj_description(o.oid, 'pg_constraint') IS NOT NULL"
                .to_owned(),
        ),
        (
            36,
            "SELECT 'on', format('COMMENT ON INDEX %s IS %L', c.oid::regclass, obj_description(c.oid, 'pg_class')), c.relname::text
             FROM l, pg_index x JOIN pg_class c ON c.oid = x.indexrelid
             WHERE x.indrelid = l.oid AND obj_description(c.oid, 'pg_class') IS NOT NULL"
                .to_owned(),
        ),
        (
            52,
            "SELECT 'on', format('COMMENT ON CONSTRAINT %I ON %s IS %L', o.conname, l.name,
                    obj_description(o.oid, 'pg_constraint')) FROM l, pg_constraint o
             WHERE o.conrelid = l.oid AND o.contype = 't' AND obj_description(o.oid, 'pg_constraint') IS NOT NULL"
                .to_owned(),
        ),
        (
            37,
            "SELECT 'on', format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS %s', c.oid::regclass, a.attnum, a.attstattarget),
                    c.relname::text
             FROM l, pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_attribute a ON a.attrelid = c.oid
             WHERE x.indrelid = l.oid AND nullif(a.attstattarget, -1) IS NOT NULL AND a.attnum > 0
             AND x.indkey[a.attnum - 1] = 0"
                .to_owned(),
        ),
        // The sequence of an identity column is another one, under the same name.
        (
            38,
            "SELECT 'on', format('GRANT %s ON SEQUENCE %s TO %s%s', a.privilege_type, q.oid::regclass,
                    CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                    CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
             FROM l, pg_depend d JOIN pg_class q ON q.oid = d.objid AND q.relkind = 'S' CROSS JOIN LATERAL aclexplode(q.relacl) AS a
             WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND d.deptype = 'i'"
                .to_owned(),
        ),
        (
            39,
            "SELECT 'on', format('COMMENT ON SEQUENCE %s IS %L', q.oid::regclass, obj_description(q.oid, 'pg_class'))
             FROM l, pg_depend d JOIN pg_class q ON q.oid = d.objid AND q.relkind = 'S'
             WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND d.deptype = 'i' AND obj_description(q.oid, 'pg_class') IS NOT NULL"
                .to_owned(),
        ),
        // A serial column's sequence goes with its table.
        (
            20,
            "SELECT 'on', format('ALTER SEQUENCE %s OWNED BY %s.%I', q.oid::regclass, l.name, a.attname)
             FROM l, pg_depend d JOIN pg_class q ON q.oid = d.objid AND q.relkind = 'S'
             JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid JOIN i ON true
             JOIN pg_attribute b ON b.attrelid = i.oid AND b.attname = a.attname AND NOT b.attisdropped
             WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             AND d.deptype = 'a'"
                .to_owned(),
        ),
        (
            48,
            "SELECT 'on', format('ALTER TABLE %s REPLICA IDENTITY %s', l.name, CASE c.relreplident
                    WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING' WHEN 'd' THEN 'DEFAULT'
                    ELSE 'USING INDEX ' || quote_ident((SELECT x.relname FROM pg_index n JOIN pg_class x ON x.oid = n.indexrelid
                                                        WHERE n.indrelid = l.oid AND n.indisreplident)) END),
                    (SELECT x.relname::text FROM pg_index n JOIN pg_class x ON x.oid = n.indexrelid
                     WHERE n.indrelid = l.oid AND n.indisreplident)
             FROM l JOIN pg_class c ON c.oid = l.oid JOIN i ON true JOIN pg_class ic ON ic.oid = i.oid
             WHERE c.relreplident <> 'd' OR ic.relreplident <> 'd'"
                .to_owned(),
        ),
        (
            49,
            "SELECT 'on', format('ALTER TABLE %s CLUSTER ON %I', l.name, x.relname), x.relname::text
             FROM l, pg_index n JOIN pg_class x ON x.oid = n.indexrelid WHERE n.indrelid = l.oid AND n.indisclustered"
                .to_owned(),
        ),
        (
            14,
            "SELECT 'off', format('DROP STATISTICS %I.%I', n.nspname, s.stxname)
             FROM l, pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE s.stxrelid = l.oid"
                .to_owned(),
        ),
        (
            51,
            "SELECT 'on', pg_get_statisticsobjdef(s.oid)
                    || format('; ALTER STATISTICS %I.%I OWNER TO %I', n.nspname, s.stxname, pg_get_userbyid(s.stxowner))
                    || CASE WHEN nullif(s.stxstattarget, -1) IS NOT NULL
                            THEN format('; ALTER STATISTICS %I.%I SET STATISTICS %s', n.nspname, s.stxname, s.stxstattarget)
                            ELSE '' END
                    || coalesce(format('; COMMENT ON STATISTICS %I.%I IS %L', n.nspname, s.stxname,
                                       obj_description(s.oid, 'pg_statistic_ext')), '')
             FROM l, pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE s.stxrelid = l.oid"
                .to_owned(),
        ),
        (
            2,
            "SELECT 'later', format('ANALYZE %s', l.name) FROM l
             WHERE EXISTS (SELECT FROM pg_statistic_ext s WHERE s.stxrelid = l.oid)"
                .to_owned(),
        ),
        // What cannot follow.
        (
            1,
            "SELECT 'cannot', format('the publication %I', p.pubname) FROM l, pg_publication p
             WHERE p.puballtables OR EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = l.oid)
             OR EXISTS (SELECT FROM pg_publication_tables t JOIN pg_class c ON c.oid = l.oid
                        JOIN pg_namespace n ON n.oid = c.relnamespace
                        WHERE t.pubname = p.pubname AND t.schemaname = n.nspname AND t.tablename = c.relname)"
                .to_owned(),
        ),
        (
            1,
            "SELECT 'cannot', 'a subscription that writes the table' FROM l
             WHERE EXISTS (SELECT FROM pg_subscription_rel r WHERE r.srrelid = l.oid)"
                .to_owned(),
        ),
        (
            1,
            "SELECT 'cannot', 'a security label' FROM l
             WHERE EXISTS (SELECT FROM pg_seclabel s WHERE s.classoid = 'pg_class'::regclass AND s.objoid = l.oid)"
                .to_owned(),
        ),
        (
            1,
            "SELECT DISTINCT 'cannot', pg_describe_object(d.classid, d.objid, d.objsubid) || ', which uses the type of its rows'
             FROM l JOIN pg_class c ON c.oid = l.oid JOIN pg_type t ON t.oid = c.reltype
             JOIN pg_depend d ON d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.oid, t.typarray) AND d.deptype <> 'i'"
                .to_owned(),
        ),
        (
            1,
            "SELECT DISTINCT 'cannot', pg_describe_object(d.classid, d.objid, d.objsubid)
             FROM l JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
             WHERE d.classid NOT IN ('pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_rewrite'::regclass,
                   'pg_trigger'::regclass, 'pg_policy'::regclass, 'pg_class'::regclass, 'pg_statistic_ext'::regclass,
                   'pg_type'::regclass, 'pg_publication_rel'::regclass)"
                .to_owned(),
        ),
        (
            1,
            "SELECT 'cannot', pg_describe_object(d.refclassid, d.refobjid, 0) || ', of which the table is a part'
             FROM l JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = l.oid AND d.deptype = 'e'"
                .to_owned(),
        ),
        (
            1,
            "SELECT 'cannot', format('constraint %I, which is NOT VALID', o.conname) FROM l, pg_constraint o
             WHERE o.conrelid = l.oid AND o.contype IN ('c', 'n') AND NOT o.convalidated"
                .to_owned(),
        ),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .map(|(place, part)| {
            // Only some say so by themselves.
            let part = match NEEDING.contains(&place) {
                true => part,
                false => format!("SELECT q.kind, q.statement, NULL::text FROM ({part}) AS q(kind, statement)"),
            };
            format!("SELECT {place} AS place, p.kind, p.statement, p.needs FROM ({part}) AS p(kind, statement, needs)")
        })
        .collect();
    format!(
        "WITH l AS (SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name
                    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {live}),
              i AS (SELECT {incoming}::oid AS oid)
         SELECT kind, statement, needs FROM ({}) AS a ORDER BY place, statement",
        parts.join(" UNION ALL ")
    )
}

/// What about a table's place among others stands in the way of a rebuild, as a query for one text.
pub fn place_query(table: i64) -> String {
    format!(
        "SELECT CASE WHEN c.relkind = 'p' THEN 'it is partitioned' WHEN c.relispartition THEN 'it is a partition'
                WHEN EXISTS (SELECT FROM pg_inherits h WHERE c.oid IN (h.inhrelid, h.inhparent)) THEN 'it inherits, or is inherited from'
                WHEN c.reloftype <> 0 THEN 'it is a table of a type' END
         FROM pg_class c WHERE c.oid = {table}"
    )
}
