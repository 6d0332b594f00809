//! What the controller follows while it runs: the configuration, and the files that it names for the
//! way to STS.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::api::configuration::Configuration;
use crate::secret::SecretText;
use crate::serving::reload::Load;
use crate::world::{
    BoxFuture, Files, Http, HttpClient, HttpError, HttpOptions, Request, Response, Route,
};

/// Longest CA bundle.
const MAX_CA_FILE: usize = 1024 * 1024;
/// Longest `user:password`.
const MAX_CREDENTIALS_FILE: usize = 4096;

/// Everything that is followed, and the way to STS that it makes.
#[derive(Debug, Clone)]
pub struct Settings {
    inputs: Arc<Inputs>,
    http: HttpClient,
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
struct Inputs {
    configuration: Arc<Configuration>,
    ca: Option<Vec<u8>>,
    proxy_credentials: Option<SecretText>,
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        self.inputs == other.inputs
    }
}

/// Reads the configuration with `read`, and the files that it names. A client is only made anew
/// where something differs.
#[must_use]
pub fn loader(read: Load<Configuration>, files: Arc<dyn Files>) -> Load<Settings> {
    let last = Mutex::new(None::<Settings>);
    Box::new(move || {
        let inputs = Inputs::read(read()?, files.as_ref())?;
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = last.as_ref()
            && *known.inputs == inputs
        {
            return Ok(known.clone());
        }
        let http = inputs.http()?;
        let settings = Settings {
            inputs: Arc::new(inputs),
            http,
        };
        *last = Some(settings.clone());
        Ok(settings)
    })
}

impl Settings {
    /// The operator's configuration.
    #[must_use]
    pub fn configuration(&self) -> Arc<Configuration> {
        Arc::clone(&self.inputs.configuration)
    }
}

impl Inputs {
    fn read(configuration: Configuration, files: &dyn Files) -> Result<Self, String> {
        let read = |field: &str, path: &Path, limit| {
            files
                .read(path, limit)
                .map_err(|error| format!("{field}: {} cannot be read: {error}", path.display()))
        };
        let sts = &configuration.sts;
        let ca = sts
            .ca_file
            .as_ref()
            .map(|path| read("sts.caFile", path, MAX_CA_FILE))
            .transpose()?;
        let field = "sts.proxyCredentialsFile";
        let proxy_credentials = sts
            .proxy_credentials_file
            .as_ref()
            .map(|path| {
                let text = String::from_utf8(read(field, path, MAX_CREDENTIALS_FILE)?)
                    .map_err(|_| format!("{field}: {} is no text", path.display()))?;
                Ok::<_, String>(SecretText::from(text.trim()))
            })
            .transpose()?;
        Ok(Self {
            configuration: Arc::new(configuration),
            ca,
            proxy_credentials,
        })
    }

    /// The way to STS.
    fn http(&self) -> Result<HttpClient, String> {
        let route = match &self.configuration.sts.proxy {
            None => Route::Internet,
            Some(url) => Route::Proxy(self.proxy(url)?),
        };
        HttpClient::new(&HttpOptions {
            route,
            extra_roots: self.ca.clone(),
            ..HttpOptions::default()
        })
        .map_err(|error| format!("sts: {error}"))
    }

    /// The proxy's URL, with user and password where there are some. No error quotes it.
    fn proxy(&self, url: &str) -> Result<SecretText, String> {
        let Some(credentials) = &self.proxy_credentials else {
            return Ok(SecretText::from(url));
        };
        let (user, password) = credentials.expose().split_once(':').ok_or_else(|| {
            "sts.proxyCredentialsFile: the file must hold user:password".to_owned()
        })?;
        let unusable = "sts.proxy: cannot be used with user and password".to_owned();
        let mut url = url::Url::parse(url).map_err(|_| unusable.clone())?;
        url.set_username(user)
            .and_then(|()| url.set_password(Some(password)))
            .map_err(|()| unusable)?;
        Ok(SecretText::new(url.into()))
    }
}

/// The settings in use, for whoever needs them at the moment of an action.
#[derive(Clone)]
pub struct Live(watch::Receiver<Arc<Settings>>);

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Live").field(&self.configuration()).finish()
    }
}

impl Live {
    /// What that reload has in use.
    #[must_use]
    pub fn new(settings: watch::Receiver<Arc<Settings>>) -> Self {
        Self(settings)
    }

    /// The configuration as it is now; one piece of work takes it once.
    #[must_use]
    pub fn configuration(&self) -> Arc<Configuration> {
        self.0.borrow().configuration()
    }

    /// Waits for the next change. Pending for ever when nothing can change any more.
    pub(super) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Http for Live {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
        let http = self.0.borrow().http.clone();
        Box::pin(async move { http.send(request).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::io;

    #[derive(Debug, Default)]
    struct Shelf(Mutex<HashMap<String, Vec<u8>>>);

    impl Files for Shelf {
        fn read(&self, path: &Path, _: usize) -> io::Result<Vec<u8>> {
            let files = self.0.lock().unwrap();
            files
                .get(path.to_str().unwrap())
                .cloned()
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        }
    }

    fn load_with(shelf: &Arc<Shelf>, sts: &str) -> Load<Settings> {
        let text = format!(
            "accountId: '1'\noidcProviderArn: acs:ram::1:oidc-provider/p\nregion: cn-hangzhou\nsts: {sts}\n"
        );
        let read = move || Configuration::parse(&text).map_err(|error| error.to_string());
        loader(Box::new(read), shelf.clone())
    }

    fn put(shelf: &Shelf, path: &str, content: &str) {
        let mut files = shelf.0.lock().unwrap();
        files.insert(path.to_owned(), content.into());
    }

    #[test]
    fn a_file_that_the_configuration_names_is_part_of_the_settings() {
        let shelf = Arc::new(Shelf::default());
        let load = load_with(
            &shelf,
            "{proxy: 'http://proxy:3128', proxyCredentialsFile: /proxy}",
        );
        let error = load().unwrap_err();
        assert!(
            error.contains("sts.proxyCredentialsFile: /proxy"),
            "{error}"
        );
        put(&shelf, "/proxy", "user:hunter2\n");
        let one = load().unwrap();
        assert_eq!(one, load().unwrap());
        put(&shelf, "/proxy", "user:hunter3\n");
        let other = load().unwrap();
        assert_ne!(one, other);
        let shown = format!("{other:?}");
        assert!(!shown.contains("hunter"), "{shown}");
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_field_and_not_quoted() {
        let shelf = Arc::new(Shelf::default());
        put(&shelf, "/ca", "no certificate");
        let error = load_with(&shelf, "{caFile: /ca}")().unwrap_err();
        assert!(error.contains("CA bundle"), "{error}");
        put(&shelf, "/proxy", "hunter2");
        let load = load_with(
            &shelf,
            "{proxy: 'http://proxy:3128', proxyCredentialsFile: /proxy}",
        );
        let error = load().unwrap_err();
        assert!(error.contains("user:password"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_password_with_odd_characters_stays_what_it_is() {
        let inputs = Inputs {
            configuration: Arc::new(
                Configuration::parse(
                    "accountId: '1'\noidcProviderArn: acs:ram::1:oidc-provider/p\nregion: cn-hangzhou\n",
                )
                .unwrap(),
            ),
            ca: None,
            proxy_credentials: Some("me:p@ss:w/rd".into()),
        };
        let url = inputs.proxy("http://proxy:3128").unwrap();
        assert_eq!(url.expose(), "http://me:p%40ss%3Aw%2Frd@proxy:3128/");
    }
}
