//! Servers of other versions of Postgres than the one that the tests share.

use crate::servers::or_panic;
use switchyard_localstack::{
    Places, Port,
    places::Scratch,
    postgres::{Binaries, Options, Postgres},
    progress::quiet,
    python::Venv,
};
use switchyard_store::DatabaseUrl;

/// A server of one version, for one test. It ends with this value.
pub struct Server {
    postgres: Postgres,
    _scratch: Scratch,
}

impl Server {
    /// Starts one with these settings.
    ///
    /// # Panics
    /// With the reason and the way out, where it cannot start.
    #[must_use]
    pub fn start(binaries: &Binaries, settings: &'static [(&'static str, &'static str)]) -> Self {
        let scratch = or_panic(Places::of_this_checkout().scratch("versions"));
        let options = Options {
            data: scratch.dir().join("data"),
            log: scratch.dir().join("log"),
            port: Port::Free,
            durable: false,
            max_connections: 50,
            settings,
        };
        Self { postgres: or_panic(Postgres::start(binaries, &options)), _scratch: scratch }
    }

    /// Where its databases are made.
    #[must_use]
    pub fn admin_url(&self) -> String {
        self.postgres.admin_url()
    }

    /// A new database with the sample application's tables and ours; its address.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub async fn database(&self, name: &str) -> String {
        let url = or_panic(self.postgres.create_database(name).await);
        let client = crate::database::connect(&url).await;
        client.batch_execute(switchyard_feedback::TABLES).await.unwrap();
        let address: DatabaseUrl = url.parse().unwrap();
        or_panic(crate::database::set_up(&address).await);
        url
    }
}

/// One of each version of Postgres that is on this machine, the lowest first.
///
/// # Panics
/// Where the Python environment cannot be made.
#[must_use]
pub fn all() -> Vec<Binaries> {
    Binaries::all(&or_panic(Venv::ensure(&Places::of_this_checkout(), &mut quiet)))
}
