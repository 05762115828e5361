//! The same of a partitioned table. Applications write through it, and straight to its partitions.
//!
//! Triggers for each statement fire on the table that a statement names, and see nothing of a row that is written to a
//! partition. So keys are logged by a trigger for each row: the server clones it to all partitions, also to those that come
//! later, and calls it for both halves of a row that moves from one to another. What is said once for each statement hangs on
//! the table and on each partition by itself: TRUNCATE, and on the way back the refusal of transactions that will never see the
//! swap, which must come also where such a statement finds no row.
//!
//! TRUNCATE of the table calls the triggers of all partitions.

use crate::capture::{Capture, refusing};
use crate::partitions::{Partition, whole};
use crate::sql::{ident, table, text};

/// The statements that make the function and the triggers, on partitions of these names.
pub fn triggers(capture: &Capture<'_>, partitions: &[Partition]) -> Vec<String> {
    let (live, function) = (table(capture.schema, capture.table), table(capture.schema, &capture.log));
    let mut statements = capture.function(&body(capture));
    let row = ident(&capture.trigger("row"));
    statements.push(format!(
        "CREATE TRIGGER {row} AFTER INSERT OR UPDATE OR DELETE ON {live} FOR EACH ROW EXECUTE FUNCTION {function}()"
    ));
    statements.push(format!("ALTER TABLE {live} ENABLE ALWAYS TRIGGER {row}"));
    let writes = if capture.swap.is_some() { "INSERT OR UPDATE OR DELETE OR " } else { "" };
    for name in all(capture.schema, capture.table, partitions) {
        statements.extend(once(&name, &function, &capture.trigger("stmt"), &format!("{writes}TRUNCATE")));
    }
    statements.push(check(&live, &function));
    statements
}

/// The table and its partitions.
fn all<'a>(schema: &'a str, name: &'a str, partitions: &'a [Partition]) -> impl Iterator<Item = String> + 'a {
    [name]
        .into_iter()
        .chain(partitions.iter().map(|part| part.name.as_str()))
        .map(move |name| table(schema, name))
}

/// A trigger for each statement, of one table alone.
fn once(name: &str, function: &str, trigger: &str, events: &str) -> [String; 2] {
    let trigger = ident(trigger);
    [
        format!(
            "CREATE TRIGGER {trigger} BEFORE {events} ON {name} FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        ),
        format!("ALTER TABLE ONLY {name} ENABLE ALWAYS TRIGGER {trigger}"),
    ]
}

/// Fails unless each table that holds rows has both triggers, and all are ALWAYS. What the server clones, and how, has
/// changed between releases.
fn check(live: &str, function: &str) -> String {
    let body = format!(
        "DECLARE flawed text; BEGIN
         {whole} SELECT string_agg(d.oid::regclass::text, ', ') INTO flawed FROM d
         WHERE 2 <> (SELECT count(*) FROM pg_trigger t WHERE t.tgrelid = d.oid AND t.tgfoid = to_regproc({function})
                     AND t.tgenabled = 'A');
         IF flawed IS NOT NULL THEN
             RAISE EXCEPTION 'the triggers of % are not as they were asked for', flawed;
         END IF; END",
        whole = whole(&format!("to_regclass({})", text(live))),
        function = text(function),
    );
    format!("DO {}", text(&body))
}

fn body(capture: &Capture<'_>) -> String {
    let head = capture.logging();
    format!(
        "BEGIN
             IF TG_LEVEL = 'ROW' THEN
                 IF TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND ROW({old}) IS DISTINCT FROM ROW({new}) THEN
                     {head} VALUES (true, {old});
                 END IF;
                 IF TG_OP <> 'DELETE' THEN
                     {head} VALUES (false, {new});
                 END IF;
             ELSE
                 {guard}
                 IF TG_OP <> 'TRUNCATE' THEN
                     RETURN NULL;
                 {emptying}
             END IF;
             RETURN NULL;
         END",
        old = capture.key_of("OLD"),
        new = capture.key_of("NEW"),
        guard = capture.swap.map(refusing).unwrap_or_default(),
        // Of a partitioned table there is nothing in itself; its partitions are emptied one by one.
        emptying = capture.emptying(),
    )
}

/// The statements that make the refusal alone, where nothing is captured after a swap.
pub fn guard(schema: &str, live: &str, partitions: &[Partition], name: &str, xid: &str) -> Vec<String> {
    let function = table(schema, name);
    let mut statements = vec![format!(
        "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS {}",
        text(&format!("BEGIN {} RETURN NULL; END", refusing(xid)))
    )];
    for table in all(schema, live, partitions) {
        statements.extend(once(&table, &function, name, "INSERT OR UPDATE OR DELETE"));
    }
    statements
}

/// What shows whether anything about the function and its triggers was changed since, on whatever partitions: as a query for one
/// text. One that was attached, made, detached or dropped shows in it, since the server makes and drops triggers with that.
pub fn fingerprint(capture: &Capture<'_>) -> String {
    format!(
        "SELECT concat_ws(' ', (SELECT hashtextextended(string_agg(concat_ws('.', t.tgrelid, t.tgname, t.tgenabled, t.oid, t.xmin), ' '
                                                      ORDER BY t.tgrelid, t.tgname), 0)
                FROM pg_trigger t WHERE t.tgfoid = p.oid), concat_ws('.', p.oid, p.xmin))
         FROM pg_proc p WHERE p.oid = to_regproc({})",
        text(&table(capture.schema, &capture.log))
    )
}
