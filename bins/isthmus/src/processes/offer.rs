//! What the installation offers: the model's settings, out of the configuration.

use anyhow::Context;
use isthmus_model::Settings;
use isthmus_runtime::Config;

/// The model's settings that `config` asks for.
pub fn settings(config: &Config) -> anyhow::Result<Settings> {
    let mut offer = config.offer.clone();
    offer.insert("realm".to_owned(), config.realm.as_str().into());
    offer.insert("host".to_owned(), config.host.as_str().into());
    let own_router = offer.contains_key("uplink_router");
    let mut settings: Settings = offer.try_into().context("the configuration cannot be used")?;
    if let (false, Some(pool)) = (own_router, settings.public_pool.v4()) {
        settings.uplink_router = pool.hosts().next().unwrap_or(pool.network());
    }
    check(&settings)?;
    Ok(settings)
}

fn check(settings: &Settings) -> anyhow::Result<()> {
    settings.check()?;
    let pool = settings.public_pool;
    anyhow::ensure!(
        pool.prefix_len() <= 29,
        "public_pool: a range of at least eight addresses is needed"
    );
    anyhow::ensure!(
        pool.contains_address(settings.uplink_router.into()),
        "uplink_router: {} does not lie in public_pool {pool}",
        settings.uplink_router
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> anyhow::Result<Settings> {
        let config = Config {
            offer: text.parse().unwrap(),
            ..Config::default()
        };
        settings(&config)
    }

    #[test]
    fn realm_and_host_come_from_the_configuration_and_the_rest_has_defaults() {
        let settings = with("[quotas]\nvpcs = 7").unwrap();
        assert_eq!(settings.realm, Config::default().realm);
        assert_eq!(settings.quotas.vpcs, 7);
        assert_eq!(settings.zones.len(), 3);
    }

    #[test]
    fn the_router_of_another_pool_is_its_first_address() {
        let settings = with("public_pool = \"198.51.100.128/25\"").unwrap();
        assert_eq!(settings.uplink_router.to_string(), "198.51.100.129");
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        for (text, word) in [
            ("zonse = []", "zonse"),
            ("zones = []", "no zone"),
            ("public_pool = \"203.0.113.0/30\"", "public_pool"),
            ("uplink_router = \"192.0.2.1\"", "uplink_router"),
        ] {
            let error = format!("{:#}", with(text).unwrap_err());
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
