//! A program of somebody who needs credentials and a signature, and nothing of Kubernetes: it says
//! what the default chain finds on this machine and signs a request with it. No secret is printed.

use std::error::Error;

use rrsa::credentials::{Client, DefaultChain, Verdict};
use rrsa::signing::{Signer, acs3};
use rrsa::world::World;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let world = World::system()?;
    for (source, verdict) in DefaultChain::new(&world).explain().await {
        match verdict {
            Verdict::PassedOver(why) => println!("{source}: passed over: {why}"),
            Verdict::Chosen(found) => println!("{source}: chosen: {}", found.access_key_id()),
            Verdict::Broken(error) => println!("{source}: broken: {}", error.chain()),
            Verdict::NotAsked => println!("{source}: not asked"),
        }
    }

    let credentials = Client::from_env()?.credentials().await?;
    let nonce: String = world
        .random
        .bytes()?
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let request = acs3::Request {
        method: "POST",
        host: "sts.cn-hangzhou.aliyuncs.com",
        path: "/",
        query: &[],
        action: "GetCallerIdentity",
        version: "2015-04-01",
        content_type: None,
        body: b"",
        signer: Signer {
            access_key_id: credentials.access_key_id(),
            access_key_secret: credentials.access_key_secret(),
            security_token: credentials.security_token(),
        },
        time: world.clock.now() + credentials.issuer_is_ahead(),
        nonce: &nonce,
    };
    let headers = request.sign();
    let names: Vec<_> = headers.iter().map(|(name, _)| name).collect();
    println!(
        "{} signed: {}",
        credentials.provider_name(),
        names.join(" ")
    );
    Ok(())
}
