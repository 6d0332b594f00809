//! Who makes the webhook's certificate: the webhook, cert-manager or somebody else. What a way does
//! not need, neither the program nor its rights have.

use rstest::rstest;

use super::{Value, json, objects, rendered, template, text};

const CERT_MANAGER: &str = "cert-manager.yaml";
const SECRET: &str = "certificate-secret.yaml";

fn named<'a>(objects: &'a [Value], kind: &str, name: &str) -> Option<&'a Value> {
    objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
}

fn registration(objects: &[Value]) -> &Value {
    named(objects, "MutatingWebhookConfiguration", "rrsa").unwrap()
}

/// The rights that the webhook's ServiceAccount has, as text.
fn rights(objects: &[Value]) -> String {
    objects
        .iter()
        .filter(|object| {
            ["Role", "ClusterRole"].contains(&object["kind"].as_str().unwrap())
                && object["metadata"]["name"] == "rrsa-webhook"
        })
        .map(|object| object["rules"].to_string())
        .collect()
}

#[test]
fn by_default_the_webhook_has_an_authority_of_its_own() {
    let objects = objects(&rendered("manifests.yaml", &json!({}), &[]));
    assert!(rights(&objects).contains("mutatingwebhookconfigurations"));
    assert!(rights(&objects).contains("secrets"));
    let entry = &registration(&objects)["webhooks"][0];
    // The webhook sets it; were it rendered, each upgrade would take it away.
    assert!(entry["clientConfig"].get("caBundle").is_none());
    assert!(named(&objects, "Certificate", "rrsa-webhook").is_none());
}

#[test]
fn with_anothers_certificate_the_webhook_has_no_right_to_write() {
    for (example, secret) in [
        (CERT_MANAGER, "rrsa-webhook-tls"),
        (SECRET, "rrsa-webhook-certificate"),
    ] {
        let objects = objects(&rendered(example, &json!({}), &[]));
        let rights = rights(&objects);
        for word in [
            "mutatingwebhookconfigurations",
            "secrets",
            "patch",
            "create",
        ] {
            assert!(!rights.contains(word), "{example}: {word} in {rights}");
        }
        assert!(named(&objects, "RoleBinding", "rrsa-webhook").is_none());
        let deployment = named(&objects, "Deployment", "rrsa-webhook").unwrap();
        let pod = &deployment["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let flags = container["args"].to_string();
        assert!(
            flags.contains("--tls-cert=/etc/rrsa-tls/tls.crt"),
            "{flags}"
        );
        assert!(flags.contains("--tls-key=/etc/rrsa-tls/tls.key"), "{flags}");
        let mounts = container["volumeMounts"].as_array().unwrap();
        let mount = mounts
            .iter()
            .find(|mount| mount["mountPath"] == "/etc/rrsa-tls");
        // Never by subPath, which does not follow a renewal.
        assert_eq!(
            mount,
            Some(&json!({"name": "certificate", "mountPath": "/etc/rrsa-tls", "readOnly": true}))
        );
        let volumes = pod["volumes"].as_array().unwrap();
        assert!(
            volumes.contains(&json!({"name": "certificate", "secret": {"secretName": secret}})),
            "{volumes:?}"
        );
    }
}

#[test]
fn cert_manager_makes_the_certificate_and_fills_in_the_authority() {
    let objects = objects(&rendered(CERT_MANAGER, &json!({}), &[]));
    let certificate = named(&objects, "Certificate", "rrsa-webhook").unwrap();
    assert_eq!(certificate["spec"]["secretName"], "rrsa-webhook-tls");
    assert_eq!(
        certificate["spec"]["issuerRef"],
        json!({"group": "cert-manager.io", "kind": "ClusterIssuer", "name": "corporate"})
    );
    let service = &registration(&objects)["webhooks"][0]["clientConfig"]["service"];
    let host = format!(
        "{}.{}.svc",
        service["name"].as_str().unwrap(),
        service["namespace"].as_str().unwrap()
    );
    let names = certificate["spec"]["dnsNames"].as_array().unwrap();
    assert!(names.contains(&json!(host)), "{names:?}");
    assert_eq!(
        registration(&objects)["metadata"]["annotations"]["cert-manager.io/inject-ca-from"],
        "rrsa-system/rrsa-webhook"
    );
    assert!(!objects.iter().any(|object| object["kind"] == "Issuer"));
}

#[test]
fn without_an_issuer_the_release_brings_an_authority() {
    let over = json!({"webhook": {"certificates": {"issuer": {"name": ""}}}});
    let objects = objects(&rendered(CERT_MANAGER, &over, &[]));
    let certificate = named(&objects, "Certificate", "rrsa-webhook").unwrap();
    let issuer = certificate["spec"]["issuerRef"]["name"].as_str().unwrap();
    let issuer = named(&objects, "Issuer", issuer).unwrap();
    let authority = objects
        .iter()
        .find(|object| object["spec"]["secretName"] == issuer["spec"]["ca"]["secretName"])
        .unwrap();
    assert_eq!(authority["spec"]["isCA"], true);
    let root = authority["spec"]["issuerRef"]["name"].as_str().unwrap();
    let root = named(&objects, "Issuer", root).unwrap();
    assert_eq!(root["spec"], json!({"selfSigned": {}}));
}

#[test]
fn a_given_authority_is_registered_with_every_entry() {
    for example in [CERT_MANAGER, SECRET] {
        let over = json!({"webhook": {"certificates": {"caBundle": "-----A-----\n"}}});
        let objects = objects(&rendered(example, &over, &[]));
        let registration = registration(&objects);
        let entries = registration["webhooks"].as_array().unwrap();
        assert_eq!(entries.len(), 3);
        for entry in entries {
            // base64 of "-----A-----\n"
            assert_eq!(entry["clientConfig"]["caBundle"], "LS0tLS1BLS0tLS0K");
        }
        assert!(registration["metadata"].get("annotations").is_none());
    }
}

/// What the hook of the uninstallation may do, and what it is told to delete.
#[rstest]
#[case::own("manifests.yaml", json!({}), true)]
#[case::no_webhook("manifests.yaml", json!({"webhook": {"enabled": false}}), false)]
#[case::of_cert_manager(CERT_MANAGER, json!({}), false)]
#[case::given(SECRET, json!({}), false)]
#[case::given_with_the_name_of_ours(
    SECRET,
    json!({"webhook": {"certificates": {"secretName": "rrsa-webhook-ca"}}}),
    false
)]
fn an_uninstallation_touches_the_secret_of_an_own_authority_alone(
    #[case] example: &str,
    #[case] over: Value,
    #[case] touches: bool,
) {
    let objects = objects(&rendered(example, &over, &[]));
    let lease = json!({"apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
        "resourceNames": ["rrsa-controller"], "verbs": ["get", "delete"]});
    let secret = json!({"apiGroups": [""], "resources": ["secrets"],
        "resourceNames": ["rrsa-webhook-ca"], "verbs": ["get", "delete"]});
    let expected = if touches {
        json!([secret, lease])
    } else {
        json!([lease])
    };
    let role = named(&objects, "Role", "rrsa-cleanup").unwrap();
    assert_eq!(role["rules"], expected);
    let job = named(&objects, "Job", "rrsa-cleanup").unwrap();
    let flags = &job["spec"]["template"]["spec"]["containers"][0]["args"];
    let flags = flags.as_array().unwrap();
    assert_eq!(
        flags.contains(&json!("--ca-secret=rrsa-webhook-ca")),
        touches
    );
    assert!(flags.contains(&json!("--lease=rrsa-controller")));
}

#[test]
fn one_port_for_two_listeners_is_refused() {
    let over = json!({"webhook": {"port": 9440}});
    let said = text(&template("manifests.yaml", &over, &[]).stderr);
    assert!(
        said.contains("webhook.port") && said.contains("webhook.adminPort"),
        "{said}"
    );
}

#[test]
fn half_a_choice_is_refused_with_the_values_name() {
    for (example, certificates, named) in [
        (
            "manifests.yaml",
            json!({"mode": "secret"}),
            "webhook.certificates.secretName",
        ),
        (
            SECRET,
            json!({"caBundle": ""}),
            "webhook.certificates.caBundle",
        ),
        (
            "manifests.yaml",
            json!({"caBundle": "-----A-----"}),
            "webhook.certificates.caBundle",
        ),
    ] {
        let over = json!({"webhook": {"certificates": certificates}});
        let output = template(example, &over, &[]);
        assert!(!output.status.success(), "{over}");
        let said = text(&output.stderr);
        assert!(said.contains(named), "{over}: {said}");
    }
}
