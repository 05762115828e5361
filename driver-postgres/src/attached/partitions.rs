//! Partitions on either side. What hangs on a partition of the live table follows nowhere; what a partitioned table takes
//! is less than what a plain one does.

use super::{Part, part};

/// What is told of a partition, as `d.oid`, `what` and a condition over it.
const OF_A_PARTITION: [(&str, &str); 14] = [
    ("'which is being detached'", "d.inhdetachpending"),
    ("'which is a foreign table'", "c.relkind = 'f'"),
    // A crash would empty it alone.
    ("'which is UNLOGGED'", "c.relpersistence = 'u'"),
    ("'which belongs to another login'", "NOT pg_has_role(c.relowner, 'USAGE')"),
    (
        "'which is in another schema than the table'",
        "c.relnamespace <> (SELECT t.relnamespace FROM pg_class t JOIN l ON t.oid = l.oid)",
    ),
    (
        "'which has triggers of its own'",
        "EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgparentid = 0 AND NOT t.tgisinternal
                 AND NOT starts_with(t.tgname, '_rp_'))",
    ),
    (
        "'which has foreign keys of its own'",
        "EXISTS (SELECT FROM pg_constraint o WHERE o.conrelid = c.oid AND o.contype = 'f' AND o.conparentid = 0)",
    ),
    (
        "'to which foreign keys refer'",
        "EXISTS (SELECT FROM pg_constraint o WHERE o.confrelid = c.oid AND o.contype = 'f' AND o.conparentid = 0)",
    ),
    (
        "'which has policies of its own'",
        "c.relrowsecurity OR EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid)",
    ),
    ("'which a publication names'", "EXISTS (SELECT FROM pg_publication_rel r WHERE r.prrelid = c.oid)"),
    ("'which a subscription writes'", "EXISTS (SELECT FROM pg_subscription_rel r WHERE r.srrelid = c.oid)"),
    ("'whose replica identity is not the primary key'", "c.relreplident <> 'd'"),
    (
        "'which has extended statistics of its own'",
        "EXISTS (SELECT FROM pg_statistic_ext s WHERE s.stxrelid = c.oid)",
    ),
    (
        "'which a view, a rule or a function uses by its own name'",
        "EXISTS (SELECT FROM pg_depend x WHERE x.refclassid = 'pg_class'::regclass AND x.refobjid = c.oid
                 AND x.classid IN ('pg_rewrite'::regclass, 'pg_proc'::regclass, 'pg_policy'::regclass))
         OR EXISTS (SELECT FROM pg_type t JOIN pg_depend x ON x.refclassid = 'pg_type'::regclass
                    AND x.refobjid IN (t.oid, t.typarray) AND x.deptype <> 'i' WHERE t.oid = c.reltype)",
    ),
];

/// Either table is partitioned.
const EITHER: &str = "EXISTS (SELECT FROM pg_class e, i WHERE e.oid IN (l.oid, i.oid) AND e.relkind = 'p')";

/// The parts.
pub fn parts() -> Vec<Part> {
    let mut all: Vec<Part> = OF_A_PARTITION
        .iter()
        .map(|(what, condition)| {
            part(
                1,
                format!(
                    "SELECT 'cannot', format('the partition %s, %s', c.oid::regclass, {what})
                     FROM d JOIN pg_class c ON c.oid = d.oid WHERE {condition}"
                ),
            )
        })
        .collect();
    all.extend([
        // Changes would be sent under the names of partitions, which subscribers do not have.
        part(1, format!(
            "SELECT 'cannot', format('the publication %I, which sends changes under the names of partitions: ALTER PUBLICATION %I SET (publish_via_partition_root = true)', p.pubname, p.pubname)
             FROM l JOIN pg_publication_rel r ON r.prrelid = l.oid JOIN pg_publication p ON p.oid = r.prpubid
             WHERE NOT p.pubviaroot AND NOT starts_with(p.pubname, '_rp_') AND {EITHER}"
        )),
        part(1, format!(
            "SELECT 'cannot', 'a replica identity that is not the primary key, since partitions have their own'
             FROM l JOIN pg_class c ON c.oid = l.oid WHERE c.relreplident <> 'd' AND {EITHER}"
        )),
        part(1, format!(
            "SELECT 'cannot', format('the foreign key %I of %s: a key that refers to a table with partitions needs a unique index of just its columns, and each partition would be looked through', o.conname, o.conrelid::regclass)
             FROM l, pg_constraint o WHERE o.contype = 'f' AND o.confrelid = l.oid AND o.conparentid = 0 AND {EITHER}"
        )),
        part(1, "SELECT 'cannot', format('the foreign key %I: before PostgreSQL 18 every row of a partitioned table would be looked at under the lock. ALTER TABLE %s DROP CONSTRAINT %I, and add it to each partition afterwards', o.conname, l.name, o.conname)
             FROM l, pg_constraint o WHERE o.contype = 'f' AND o.conrelid = l.oid AND o.conparentid = 0
             AND current_setting('server_version_num')::int < 180000 AND EXISTS (SELECT FROM pg_class e, i WHERE e.oid = i.oid AND e.relkind = 'p')"),
        part(1, format!(
            "SELECT 'cannot', format('the mark CLUSTER ON %s, which partitioned tables do not have: ALTER TABLE %s SET WITHOUT CLUSTER', n.indexrelid::regclass, l.name)
             FROM l JOIN pg_index n ON n.indrelid = l.oid AND n.indisclustered WHERE {EITHER}"
        )),
        part(1, format!(
            "SELECT 'cannot', format('the trigger %I: one for each row of a partitioned table has no REFERENCING', t.tgname)
             FROM l JOIN pg_trigger t ON t.tgrelid = l.oid AND NOT t.tgisinternal AND t.tgtype & 1 = 1
             AND (t.tgoldtable IS NOT NULL OR t.tgnewtable IS NOT NULL) WHERE {EITHER}"
        )),
        // It would go with the table that it belongs to.
        part(1, "SELECT 'cannot', format('column %I, which counts by the sequence of the identity column %I of the old table: give it a sequence of its own first (ALTER TABLE %s ALTER %I DROP IDENTITY, with a DEFAULT nextval(…) in its place)', a.attname, oa.attname, l.name, oa.attname)
             FROM l, i JOIN pg_attrdef f ON f.adrelid = i.oid
             JOIN pg_attribute a ON a.attrelid = i.oid AND a.attnum = f.adnum
             JOIN pg_depend x ON x.classid = 'pg_attrdef'::regclass AND x.objid = f.oid AND x.refclassid = 'pg_class'::regclass
             JOIN pg_depend q ON q.classid = 'pg_class'::regclass AND q.objid = x.refobjid AND q.deptype = 'i'
                 AND q.refclassid = 'pg_class'::regclass
             JOIN pg_attribute oa ON oa.attrelid = q.refobjid AND oa.attnum = q.refobjsubid
             WHERE q.refobjid = l.oid AND i.oid <> l.oid"),
    ]);
    all
}
