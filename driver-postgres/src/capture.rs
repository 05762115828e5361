//! The triggers that log the keys of changed rows, and the log.
//!
//! A log row becomes visible together with the change that it tells of (R1). The triggers fire for each statement and see
//! its rows as tables; they are ALWAYS, or sessions that replay changes of others (`session_replication_role = replica`)
//! would go by unseen. The function runs with the rights of whoever runs replank, so that a login with rights on the table
//! alone goes on writing, and with a search path of its own, so that nobody can put anything in its way.
//!
//! A TRUNCATE logs every key. It holds the table alone then, but a transaction with a snapshot of its own may not see all
//! that it removes: such a one leaves a mark that stops the run (R7).

use crate::spec::KeyColumn;
use crate::sql::{ident, table, text};

/// What to capture, and where it goes.
pub struct Capture<'a> {
    /// The schema of everything.
    pub schema: &'a str,
    /// The table that applications write.
    pub table: &'a str,
    /// The columns of its key.
    pub key: &'a [KeyColumn],
    /// The log, whose name the function and the triggers bear, too.
    pub log: String,
    /// On the way back: the swap's transaction. Transactions whose snapshot does not see it, and that will never have
    /// another, must not write: they would miss rows.
    pub swap: Option<&'a str>,
}

/// The kinds of triggers, as ends of their names.
pub const TRIGGERS: [&str; 4] = ["ins", "upd", "del", "trunc"];

impl Capture<'_> {
    /// The statement that makes the log.
    pub fn log(&self) -> String {
        let columns: Vec<String> =
            self.key.iter().enumerate().map(|(at, column)| format!("k{at} {}", column.kind)).collect();
        format!(
            "CREATE TABLE {} (xid xid8 NOT NULL DEFAULT pg_current_xact_id(), id bigint GENERATED ALWAYS AS IDENTITY,
             at timestamptz NOT NULL DEFAULT clock_timestamp(), removed boolean NOT NULL, is_gap boolean NOT NULL DEFAULT false,
             {}, PRIMARY KEY (xid, id)) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000)",
            table(self.schema, &self.log),
            columns.join(", ")
        )
    }

    /// The statements that make the function and the triggers.
    pub fn triggers(&self) -> Vec<String> {
        let (live, function) = (table(self.schema, self.table), table(self.schema, &self.log));
        let mut statements = self.function(&self.body());
        for (kind, event) in TRIGGERS.iter().zip([
            "AFTER INSERT ON {} REFERENCING NEW TABLE AS rp_new",
            "AFTER UPDATE ON {} REFERENCING OLD TABLE AS rp_old NEW TABLE AS rp_new",
            "AFTER DELETE ON {} REFERENCING OLD TABLE AS rp_old",
            "BEFORE TRUNCATE ON {}",
        ]) {
            let trigger = ident(&self.trigger(kind));
            let event = event.replace("{}", &live);
            statements.push(format!(
                "CREATE TRIGGER {trigger} {event} FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
            ));
            statements.push(format!("ALTER TABLE {live} ENABLE ALWAYS TRIGGER {trigger}"));
        }
        statements
    }

    /// A trigger's name.
    pub fn trigger(&self, kind: &str) -> String {
        format!("{}_{kind}", self.log)
    }

    /// The statements that make the function, which runs with our rights.
    pub fn function(&self, body: &str) -> Vec<String> {
        let function = table(self.schema, &self.log);
        vec![
            format!(
                "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp AS {}",
                text(body)
            ),
            format!("REVOKE ALL ON FUNCTION {function}() FROM PUBLIC"),
        ]
    }

    /// The columns of the key, of a row by this name.
    pub fn key_of(&self, alias: &str) -> String {
        let columns: Vec<String> =
            self.key.iter().map(|column| format!("{alias}.{}", ident(&column.source))).collect();
        columns.join(", ")
    }

    /// The beginning of a statement that logs keys.
    pub fn logging(&self) -> String {
        let slots: Vec<String> = (0..self.key.len()).map(|at| format!("k{at}")).collect();
        format!("INSERT INTO {} (removed, {})", table(self.schema, &self.log), slots.join(", "))
    }

    /// What logs every key in front of a TRUNCATE, or a mark where not every row is seen: the rest of an IF.
    pub fn emptying(&self) -> String {
        let all = format!(
            "{} SELECT true, {} FROM ONLY %s AS o",
            self.logging(),
            self.key_of("o").replace('%', "%%")
        );
        format!(
            "ELSIF current_setting('transaction_isolation') IN ('read committed', 'read uncommitted') THEN
                 EXECUTE format({}, TG_RELID::regclass);
             ELSE
                 INSERT INTO {} (removed, is_gap) VALUES (true, true);
             END IF;",
            text(&all),
            table(self.schema, &self.log)
        )
    }

    fn body(&self) -> String {
        let head = self.logging();
        format!(
            "BEGIN
                 {guard}
                 IF TG_OP = 'INSERT' THEN
                     {head} SELECT false, {new} FROM rp_new AS n;
                 ELSIF TG_OP = 'UPDATE' THEN
                     -- A plan that was made for one row serves for many, too.
                     {head} SELECT true, e.* FROM (SELECT {old} FROM rp_old AS o EXCEPT ALL SELECT {new} FROM rp_new AS n) AS e;
                     {head} SELECT false, {new} FROM rp_new AS n;
                 ELSIF TG_OP = 'DELETE' THEN
                     {head} SELECT true, {old} FROM rp_old AS o;
                 {emptying}
                 RETURN NULL;
             END",
            guard = self.swap.map(refusing).unwrap_or_default(),
            new = self.key_of("n"),
            old = self.key_of("o"),
            emptying = self.emptying(),
        )
    }
}

/// Tells a transaction to begin again that will never see the swap `xid`, and would miss rows.
pub fn refusing(xid: &str) -> String {
    format!(
        "IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
            AND NOT pg_visible_in_snapshot({}::xid8, pg_current_snapshot()) THEN
             RAISE EXCEPTION 'could not serialize access: the table was rebuilt since the transaction began'
             USING ERRCODE = 'serialization_failure', HINT = 'The transaction might succeed if retried.';
         END IF;",
        text(xid)
    )
}

/// The statements that make the same refusal alone, where nothing is captured after a swap. Whoever waited for the swap's
/// lock comes by; `name` is that of the function and the trigger.
pub fn guard(schema: &str, live: &str, name: &str, xid: &str) -> Vec<String> {
    let (live, function, trigger) = (table(schema, live), table(schema, name), ident(name));
    vec![
        format!(
            "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS {}",
            text(&format!("BEGIN {} RETURN NULL; END", refusing(xid)))
        ),
        format!(
            "CREATE TRIGGER {trigger} BEFORE INSERT OR UPDATE OR DELETE ON {live}
             FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        ),
        format!("ALTER TABLE {live} ENABLE ALWAYS TRIGGER {trigger}"),
    ]
}
