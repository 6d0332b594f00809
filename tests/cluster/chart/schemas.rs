//! kubeconform with the schemas of this very API server: what people run before they apply.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use super::{examples, rendered, tools, with_cluster};
use crate::support::kubernetes::Cluster;

/// Makes the API server's description of types strict: a field that is not described is none.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            let is_open = members.contains_key("additionalProperties")
                || members.contains_key("x-kubernetes-preserve-unknown-fields");
            if members.get("properties").is_some_and(Value::is_object) && !is_open {
                members.insert("additionalProperties".to_owned(), json!(false));
            }
            members.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// The names of the types that a schema refers to.
fn references(schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            if let Some(name) = members.get("$ref").and_then(Value::as_str) {
                names.extend(name.rsplit('/').next().map(str::to_owned));
            }
            members.values().for_each(|value| references(value, names));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, names)),
        _ => {}
    }
}

/// A schema that stands alone: one type, and all those that it refers to.
fn alone(name: &str, types: &Map<String, Value>) -> Result<Value> {
    let mut needed = Map::new();
    let mut next = vec![name.to_owned()];
    while let Some(name) = next.pop() {
        if needed.contains_key(&name) {
            continue;
        }
        let schema = types
            .get(&name)
            .with_context(|| format!("no type {name}"))?;
        let mut names = BTreeSet::new();
        references(schema, &mut names);
        next.extend(names);
        needed.insert(name, schema.clone());
    }
    Ok(json!({
        "$ref": format!("#/components/schemas/{name}"),
        "components": {"schemas": needed},
    }))
}

/// Writes `<kind>-<group>-<version>.json` for each kind of the API server, strict.
async fn write_schemas(cluster: &Cluster, folder: &Path) -> Result<usize> {
    let raw = async |path: &str| -> Result<Value> {
        let text = cluster.kubectl(&["get", "--raw", path]).await?.success()?;
        Ok(serde_json::from_str(&text)?)
    };
    let index = raw("/openapi/v3").await?;
    let paths = index["paths"].as_object().context("an index of OpenAPI")?;
    let mut kinds = BTreeMap::new();
    // Bindings come and go with the other tests' releases, and the chart has none.
    let wanted = |path: &str| path.contains("/v") && !path.contains("/rrsa.io/");
    for path in paths.keys().filter(|path| wanted(path)) {
        let mut document = raw(&format!("/openapi/v3/{path}")).await?;
        let mut types = document["components"]["schemas"].take();
        close(&mut types);
        let Value::Object(types) = types else {
            continue;
        };
        for (name, schema) in &types {
            for kind in schema["x-kubernetes-group-version-kind"]
                .as_array()
                .into_iter()
                .flatten()
            {
                let [group, version, kind] =
                    ["group", "version", "kind"].map(|key| kind[key].as_str().unwrap_or_default());
                // kubeconform calls the core group by its version.
                let group = if group.is_empty() { version } else { group };
                let file = format!("{kind}-{group}-{version}.json").to_lowercase();
                kinds.insert(file, alone(name, &types)?);
            }
        }
    }
    for (file, schema) in &kinds {
        fs::write(folder.join(file), schema.to_string())?;
    }
    Ok(kinds.len())
}

fn kubeconform(schemas: &Path, objects: &Path) -> Result<Output> {
    let location = schemas.join("{{.ResourceKind}}-{{.Group}}-{{.ResourceAPIVersion}}.json");
    Ok(Command::new(tools()?.join("kubeconform"))
        .args(["-strict", "-summary", "-verbose", "-schema-location"])
        .arg(location)
        .arg(objects)
        .output()?)
}

#[tokio::test]
async fn kubeconform_finds_nothing_by_the_api_servers_own_schemas() -> Result<()> {
    with_cluster(async |cluster| {
        let folder = tempfile::tempdir()?;
        let (schemas, objects) = (folder.path().join("schemas"), folder.path().join("objects"));
        fs::create_dir(&schemas)?;
        fs::create_dir(&objects)?;
        let kinds = write_schemas(cluster, &schemas).await?;
        ensure!(kinds > 100, "the API server describes {kinds} kinds");
        for example in examples()? {
            fs::write(objects.join(&example), rendered(cluster, &example).await?)?;
        }
        let output = kubeconform(&schemas, &objects)?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{said}");
        ensure!(
            said.contains("Invalid: 0, Errors: 0, Skipped: 0") && said.contains("Certificate"),
            "{said}"
        );
        // It does find what is wrong.
        let text = rendered(cluster, super::LEAST).await?;
        let wrong = objects.join("wrong.yaml");
        for (right, instead) in [
            ("  replicas: 2", "  replicas: two"),
            ("    matchLabels:", "    matchLabel:"),
        ] {
            ensure!(text.contains(right), "{right} is not in what is rendered");
            fs::write(&wrong, text.replacen(right, instead, 1))?;
            let output = kubeconform(&schemas, &wrong)?;
            ensure!(!output.status.success(), "{instead} was taken");
        }
        Ok(())
    })
    .await
}
