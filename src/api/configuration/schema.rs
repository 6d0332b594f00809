//! The JSON Schema of the file, for editors and for whoever generates it.

use schemars::generate::SchemaSettings;

use super::ConfigurationFile;

impl ConfigurationFile {
    /// The JSON Schema (2020-12).
    #[must_use]
    pub fn schema() -> serde_json::Value {
        let mut schema = SchemaSettings::draft2020_12()
            .into_generator()
            .into_root_schema_for::<Self>();
        schema.insert("title".to_owned(), "Configuration of rrsa".into());
        schema.to_value()
    }
}
