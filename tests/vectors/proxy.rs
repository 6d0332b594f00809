//! The one vector that needs a real connection.

use std::net::TcpListener;

use rrsa::credentials::{Config, Kind};
use rrsa::world::World;

#[tokio::test]
async fn ram_22_a_proxy_that_is_not_there_is_named_without_its_password() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let config = Config {
        kind: Some(Kind::RamRoleArn),
        access_key_id: Some("akid".to_owned()),
        access_key_secret: Some("aksecret".into()),
        role_arn: Some("acs:ram::1234567890123456:role/demo".to_owned()),
        role_session_name: Some("rsn".to_owned()),
        proxy: Some(format!("http://user:hunter2@{address}").into()),
        ..Config::default()
    };
    let world = World::system_with(&config.http_options()).unwrap();
    let error = config.provider(&world).unwrap().credentials().await;
    let error = error.unwrap_err().chain().to_string();
    assert!(
        error.contains("no connection to sts.aliyuncs.com"),
        "{error}"
    );
    assert!(
        error.contains(&format!("through the proxy {address}")),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");
}
