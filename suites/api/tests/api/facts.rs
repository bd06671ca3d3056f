//! Our own reads about a connection: for whoever may read the connection, and nobody else.

use isthmus_api_suite::{Server, World};

#[tokio::test]
async fn facts_about_a_connection_are_for_its_account_alone() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    let path = |fact: &str| format!("/isthmus{}/{fact}", world.connection_path());
    for fact in ["doctor", "settings"] {
        let answer = client.get(&path(fact)).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json["known"], fact);
    }

    let stranger = server.add_account("stranger").await.unwrap();
    let stranger = server.client_of(&stranger).await.unwrap();
    for fact in ["doctor", "settings"] {
        let answer = stranger.get(&path(fact)).await.unwrap();
        assert_eq!(answer.status, 404, "{answer:?}");
        assert!(!answer.json.to_string().contains("known"));
    }

    let nobody = isthmus_api_suite::Client::new(server.address);
    let answer = nobody.get(&path("doctor")).await.unwrap();
    assert_eq!(answer.status, 401, "{answer:?}");
}

#[tokio::test]
async fn facts_can_only_be_read_and_only_of_connections() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    let path = format!("/isthmus{}/doctor", world.connection_path());
    let before = server.revision();
    assert_eq!(client.delete(&path).await.unwrap().status, 405);
    assert_eq!(server.revision(), before);
    for path in [
        "/isthmus/v1/vpcs/doctor".to_owned(),
        format!("/isthmus/v1/vpcs/{}/doctor", world.vpc),
        format!("/isthmus{}", world.connection_path()),
        format!("/isthmus{}/secrets", world.connection_path()),
    ] {
        assert_eq!(client.get(&path).await.unwrap().status, 404, "{path}");
    }
}

#[tokio::test]
async fn metrics_are_for_whoever_shows_a_token_or_an_api_key_and_of_that_account() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let stranger = server.add_account("stranger").await.unwrap();
    let mut scraper = isthmus_api_suite::Client::new(server.address);
    assert_eq!(scraper.get("/metrics").await.unwrap().status, 401);
    let answer = client.get("/metrics").await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4");
    assert_eq!(answer.text, format!("known {}\n", server.account.id));
    // A scraper cannot exchange its key.
    scraper.token = Some(stranger.api_key.reveal().to_owned());
    let answer = scraper.get("/metrics").await.unwrap();
    assert_eq!(answer.text, format!("known {}\n", stranger.id));
    assert_eq!(scraper.get("/v1/vpcs").await.unwrap().status, 401);
    scraper.token = Some("guessed".to_owned());
    assert_eq!(scraper.get("/metrics").await.unwrap().status, 401);
    assert_eq!(client.delete("/metrics").await.unwrap().status, 405);
}
