//! The PostgreSQL server that tests share, each with a database of its own.

/// The row of `servers.toml` that the tests of PostgreSQL run on.
pub fn chosen_postgres() -> String {
    Some(chosen()).filter(|name| name.starts_with("postgres")).unwrap_or_else(|| "postgres-17".to_owned())
}

/// A new database on the shared PostgreSQL server.
pub async fn postgres_database() -> Database {
    let (_, server) = POSTGRES
        .get_or_init(|| async {
            let row = row(&chosen_postgres());
            let container = start(&row, &[], None, None).await;
            let port = container.get_host_port_ipv4(row.ports[0]).await.expect("the port is published");
            let password = row.env.values().next().map_or("", String::as_str);
            let url = format!("postgres://{}:{password}@127.0.0.1:{port}", row.user);
            let deadline = Instant::now() + Duration::from_secs(START_SECONDS);
            while let Err(error) = PgConnection::connect(&format!("{url}/postgres")).await {
                assert!(Instant::now() < deadline, "the server does not answer: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            (container, url)
        })
        .await;
    let name = database_name().await;
    let mut connection = PgConnection::connect(&format!("{server}/postgres")).await.expect("a connection");
    let create = format!("CREATE DATABASE {name}");
    sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await.expect("a database");
    Database { url: format!("{server}/{name}"), name }
}
