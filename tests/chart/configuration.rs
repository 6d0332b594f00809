//! `config`: Helm refuses what the program would refuse, before anything is installed.

use super::{Value, fs, json, nested, objects, read, rendered, repository, schema, template, text};
use rrsa::api::configuration::ConfigurationFile;

/// The schema of the configuration file as a part of another of draft 7, which is what every Helm
/// knows: there, what stands beside a reference is ignored, so that references are filled in.
fn inlined(root: &Value, schema: &Value) -> Value {
    match schema {
        Value::Object(members) => {
            let mut whole = match schema["$ref"].as_str() {
                Some(name) => inlined(root, root.pointer(&name[1..]).unwrap()),
                None => json!({}),
            };
            for (key, value) in members {
                // `examples` of the values are what the tests try; the rest means nothing to Helm.
                if !key.starts_with('$') && !["title", "format", "default"].contains(&&**key) {
                    whole[key] = inlined(root, value);
                }
            }
            whole
        }
        Value::Array(items) => items.iter().map(|item| inlined(root, item)).collect(),
        other => other.clone(),
    }
}

/// What the values' schema must say of `config`.
fn expected(written: &Value) -> Value {
    let root = ConfigurationFile::schema();
    let mut config = inlined(&root, &root);
    for key in ["description", "examples"] {
        config[key] = written[key].clone();
    }
    config
}

#[test]
fn the_schema_of_the_values_has_the_configurations() {
    let mut schema = schema();
    let expected = expected(&schema["properties"]["config"]);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        schema["properties"]["config"] = expected;
        let text = serde_json::to_string_pretty(&schema).unwrap();
        fs::write(
            repository("charts/rrsa/values.schema.json"),
            format!("{text}\n"),
        )
        .unwrap();
        return;
    }
    assert!(
        schema["properties"]["config"] == expected,
        "`config` in values.schema.json is out of date: run `make generate` and commit the result"
    );
}

/// Each legal value that the program accepts passes the schema as well.
#[test]
fn a_full_configuration_is_accepted() {
    let config = json!({
        "accountId": "1234567890123456",
        "clusterId": "c0123456789",
        "oidcProviderArn": "acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0123456789",
        "region": "cn-hangzhou",
        "network": "Public",
        "namespaces": ["team-a"],
        "sts": {
            "endpoint": "sts.example.com:8443",
            "caFile": "/etc/rrsa/ca.pem",
            "proxy": "http://proxy.example.com:3128",
            "proxyCredentialsFile": "/etc/proxy/credentials",
            "allowedHosts": ["sts.example.com:443"],
            "extraRegions": ["cn-new"],
            "callsPerSecond": 20,
        },
        "tokenFiles": {"operator": "/var/run/secrets/rrsa.io/token"},
        "delegation": [{"namespaces": ["team-*"], "roles": ["acs:ram::1:role/*"], "externalId": "x"}],
        "ecsFallback": [{"namespaces": ["team-*"], "roles": ["acs:ram::1:role/*"], "nodeRole": true}],
        "podLook": {"enabled": true, "intervalSeconds": 60, "neverServed": ["kube-system"]},
        "webhook": {
            "autoInjectStsEnvVars": false,
            "disableMetadata": true,
            "strict": true,
            "ecsFallback": [{"namespaces": ["team-*"], "nodeRole": "KubernetesWorkerRole"}],
            "agent": {"port": 9441, "ipv6": true},
        },
    });
    // A key of the file that is not tried here is one that nobody thought of.
    let known = ConfigurationFile::schema();
    for key in known["properties"].as_object().unwrap().keys() {
        assert!(config.get(key).is_some(), "{key} is not tried");
    }
    rendered("manifests.yaml", &json!({ "config": config }), &[]);
    serde_json::from_value::<ConfigurationFile>(config).unwrap();
}

#[test]
fn a_mistake_in_the_configuration_is_refused_by_helm() {
    for (path, value) in [
        (&["misspelt"][..], json!(1)),
        (&["sts", "misspelt"], json!(1)),
        (&["podLook", "misspelt"], json!(1)),
        (&["webhook", "misspelt"], json!(1)),
        (&["webhook", "agent"], json!({"misspelt": 1})),
        (
            &["delegation"],
            json!([{"namespaces": [], "roles": [], "misspelt": 1}]),
        ),
        (
            &["ecsFallback"],
            json!([{"namespaces": [], "roles": [], "misspelt": 1}]),
        ),
        // A number loses digits on its way through YAML tools.
        (&["accountId"], json!(1_234_567_890_123_456_u64)),
        (&["oidcProviderArn"], json!("ack-rrsa-c0123456789")),
        (&["network"], json!("vpc")),
        (&["namespaces"], json!("team-a")),
        (&["sts", "callsPerSecond"], json!("fast")),
        (&["webhook", "strict"], json!("yes")),
    ] {
        let mut path = path.to_vec();
        path.insert(0, "config");
        let output = template("manifests.yaml", &nested(&path, &value), &[]);
        assert!(!output.status.success(), "{path:?}: {value} is accepted");
        let said = text(&output.stderr);
        let named = if value.to_string().contains("misspelt") {
            "misspelt"
        } else {
            path[path.len() - 1]
        };
        assert!(said.contains(named), "{path:?}: {said}");
    }
}

#[test]
fn a_release_without_a_provider_is_refused_with_the_remedy() {
    let without = json!({"config": {"oidcProviderArn": null}});
    let output = template("manifests.yaml", &without, &[]);
    let said = text(&output.stderr);
    assert!(!output.status.success(), "it is accepted");
    assert!(
        said.contains("config.oidcProviderArn") && said.contains("config.clusterId"),
        "{said}"
    );

    let by_cluster = json!({"config": {"oidcProviderArn": null, "clusterId": "c0123456789"}});
    rendered("manifests.yaml", &by_cluster, &[]);
}

#[test]
fn a_change_of_namespaces_alone_restarts_the_controller_alone() {
    let pods = |config: Value| {
        let text = rendered("manifests.yaml", &json!({ "config": config }), &[]);
        ["rrsa-controller", "rrsa-webhook"].map(|name| {
            let deployment = objects(&text).into_iter().find(|object| {
                object["kind"] == "Deployment" && object["metadata"]["name"] == name
            });
            deployment.unwrap()["spec"]["template"].clone()
        })
    };
    let all = pods(json!({}));
    let one = pods(json!({"namespaces": ["team-a"]}));
    let other = pods(json!({"namespaces": ["team-b"]}));
    assert!(all[0] != one[0] && one[0] != other[0], "no restart");
    assert!(all[1] == one[1], "the webhook is restarted");
    assert!(all == pods(json!({"region": "cn-beijing"})), "a restart");
}

/// `make generate` gives what is there, so the file's other parts keep their form.
#[test]
fn the_schema_is_written_as_it_would_be_generated() {
    let written = read("charts/rrsa/values.schema.json");
    let anew = serde_json::to_string_pretty(&schema()).unwrap();
    assert_eq!(written, format!("{anew}\n"));
}
