//! Publications and subscriptions. Subscribers know a table by its name: the swap is one transaction in their stream.

use super::{Part, part};

/// The parts.
pub fn parts() -> Vec<Part> {
    vec![
        part(16, format!(
            "SELECT 'off', format('ALTER PUBLICATION %I DROP TABLE ONLY %s', p.pubname, l.name) FROM {PUBLISHED}"
        )),
        // Which columns and rows, from PostgreSQL 15 on.
        part(53, format!(
            "SELECT 'on', format('ALTER PUBLICATION %I ADD TABLE ONLY %s%s%s', p.pubname, l.name,
                    (SELECT format(' (%s)', string_agg(quote_ident(a), ', ' ORDER BY place))
                     FROM jsonb_array_elements_text(t.it -> 'attnames') WITH ORDINALITY AS c(a, place)
                     WHERE to_jsonb(r) ->> 'prattrs' IS NOT NULL HAVING count(*) > 0),
                    ' WHERE (' || (t.it ->> 'rowfilter') || ')')
             FROM {PUBLISHED} CROSS JOIN LATERAL (
                 SELECT to_jsonb(t) AS it FROM pg_publication_tables t JOIN pg_class c ON c.oid = l.oid
                 JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE t.pubname = p.pubname AND t.schemaname = n.nspname AND t.tablename = c.relname) AS t"
        )),
        part(1, format!(
            "SELECT 'cannot', format('the publication %I, which belongs to another login', p.pubname)
             FROM {PUBLISHED} WHERE NOT pg_has_role(p.pubowner, 'USAGE')"
        )),
        // Without a replica identity, or with one that a list of columns or a filter does not cover, writes would fail.
        // https://www.postgresql.org/docs/current/logical-replication-publication.html
        part(1, format!(
            "SELECT 'cannot', format('the publication %I, since the primary key becomes another one', p.pubname)
             FROM {PUBLISHED} JOIN pg_class c ON c.oid = l.oid CROSS JOIN i
             WHERE (p.pubupdate OR p.pubdelete) AND c.relreplident = 'd' AND i.oid <> l.oid AND NOT EXISTS (
                 SELECT FROM pg_index o JOIN pg_index n ON n.indrelid = i.oid AND n.indisprimary
                 WHERE o.indrelid = l.oid AND o.indisprimary AND {} = {})",
            columns("n"),
            columns("o")
        )),
        // The table that is not live would be in it as well, and its rows would be sent.
        part(1, "SELECT 'cannot', format('the publication %I, which is of all tables', p.pubname) FROM pg_publication p
                 WHERE p.puballtables
                 UNION ALL
                 SELECT 'cannot', pg_describe_object(d.classid, d.objid, 0) FROM l JOIN pg_class c ON c.oid = l.oid
                 JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = c.relnamespace
                 WHERE d.classid = to_regclass('pg_catalog.pg_publication_namespace')"),
        part(1, "SELECT 'cannot', 'a subscription that writes the table' FROM l
                 WHERE EXISTS (SELECT FROM pg_subscription_rel r WHERE r.srrelid = l.oid)"),
    ]
}

/// The names of the columns by which an index tells rows apart.
pub fn columns(index: &str) -> String {
    format!(
        "ARRAY(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = {index}.indrelid
               AND a.attnum = ANY (({index}.indkey::int2[])[0:{index}.indnkeyatts - 1]) ORDER BY 1)"
    )
}

/// Publications that name the table, without ours: that of a capture ends with the swap.
const PUBLISHED: &str = "l JOIN pg_publication_rel r ON r.prrelid = l.oid
             JOIN pg_publication p ON p.oid = r.prpubid AND NOT starts_with(p.pubname, '_rp_')";
