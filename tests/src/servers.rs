//! What all tests of a process share: one Postgres, one LocalStack, and the functions, built once.

use std::{
    collections::BTreeMap,
    io::Write,
    process::Stdio,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};
use switchyard_agent::Declaration;
use switchyard_localstack::{
    Places, Port,
    bootstraps::{self, Bootstraps},
    localstack::{self, LocalStack, Outputs, Stack},
    places::Scratch,
    postgres::{self, Binaries, Postgres},
    progress::quiet,
    python::Venv,
};
use switchyard_store::{AgentSpec, DatabaseUrl};

/// What the webhooks of every world are signed with.
pub const WEBHOOK_SECRET: &str = "only for the webhooks of tests";

/// What every world's stack is called.
const STACK: &str = "switchyard";

/// The database that each world's database is a copy of.
const TEMPLATE_DATABASE: &str = "world_template";

/// The Postgres of this process, started by the first test that asks. It ends with the process.
///
/// # Panics
/// With the reason and the way out, where it cannot start.
pub fn server() -> &'static Postgres {
    static SERVER: OnceLock<(Postgres, Scratch)> = OnceLock::new();
    let (postgres, _) = SERVER.get_or_init(|| {
        let places = Places::of_this_checkout();
        let venv = or_panic(Venv::ensure(&places, &mut quiet));
        let scratch = or_panic(places.scratch("postgres"));
        let options = postgres::Options {
            data: scratch.dir().join("data"),
            log: scratch.dir().join("log"),
            port: Port::Free,
            durable: false,
            max_connections: 500,
            settings: &[],
        };
        (or_panic(Postgres::start(&or_panic(Binaries::find(&venv)), &options)), scratch)
    });
    postgres
}

/// The shared part. It lives as long as the process: both servers end with it, however it ends.
pub struct Servers {
    /// The server that the worlds' databases are on.
    pub postgres: &'static Postgres,
    /// The AWS of these tests.
    pub localstack: LocalStack,
    /// What is deployed.
    pub bootstraps: Bootstraps,
    /// What the agents declare, by name.
    pub agents: Vec<AgentSpec>,
    venv: Venv,
    places: Places,
    worlds: AtomicU32,
    scratch: Scratch,
}

impl Servers {
    /// The servers of this process, started by the first test that asks.
    ///
    /// # Panics
    /// With the reason and the way out, where it cannot start.
    pub async fn get() -> &'static Self {
        static SERVERS: tokio::sync::OnceCell<Servers> = tokio::sync::OnceCell::const_new();
        SERVERS.get_or_init(Self::start).await
    }

    async fn start() -> Self {
        let places = Places::of_this_checkout();
        let venv = or_panic(Venv::ensure(&places, &mut quiet));
        let scratch = or_panic(places.scratch("tests"));
        let dir = scratch.dir();
        let postgres = server();
        let localstack = or_panic(LocalStack::start(
            &venv,
            &localstack::Options { dir: dir.join("localstack"), log: dir.join("localstack.log"), port: Port::Free },
        ));
        let bootstraps = or_panic(bootstraps::build(&places, &mut quiet));
        let agents = bootstraps.agents.iter().map(|name| or_panic(bootstraps.declaration(name))).collect();
        prepare_template(postgres).await;
        Self { postgres, localstack, bootstraps, agents, venv, places, worlds: AtomicU32::new(0), scratch }
    }

    /// What the agents declare, in the order of their names.
    pub fn declarations(&self) -> Vec<Declaration> {
        self.bootstraps.agents.iter().map(|name| or_panic(self.bootstraps.declaration(name))).collect()
    }

    /// Where LocalStack keeps what it tells about its processes.
    pub(crate) fn localstack_dir(&self) -> std::path::PathBuf {
        self.scratch.dir().join("localstack")
    }

    /// A number that no other world of this process has.
    pub(crate) fn next_world(&self) -> u32 {
        self.worlds.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A database with the application's tables and ours.
    pub(crate) async fn database(&self, name: &str) -> String {
        or_panic(self.postgres.clone_database(name, TEMPLATE_DATABASE).await)
    }

    /// The real template, deployed into an account.
    pub(crate) fn deploy(&self, account: &str, database_url: &str, parameters: &[(&str, &str)]) -> Outputs {
        let secret = serde_json::json!({ "url": database_url }).to_string();
        let mut all = BTreeMap::from([
            ("DatabaseSecret".to_owned(), "switchyard/database".to_owned()),
            ("ShimWebhookSecret".to_owned(), "switchyard/webhook".to_owned()),
            ("Architecture".to_owned(), if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" }.to_owned()),
        ]);
        all.extend(parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let stack = Stack {
            account: account.to_owned(),
            name: STACK.to_owned(),
            template: self.places.root().join("template.yaml"),
            artifacts: self.bootstraps.dir.clone(),
            parameters: all,
            secrets: BTreeMap::from([
                ("switchyard/database".to_owned(), secret),
                ("switchyard/webhook".to_owned(), serde_json::json!({ "secrets": WEBHOOK_SECRET }).to_string()),
            ]),
        };
        or_panic(self.localstack.deploy(&stack, &mut quiet))
    }

    /// Removes an account's stack.
    pub(crate) fn undeploy(&self, account: &str) {
        // A stack that cannot be removed ends with the process.
        let _ = self.localstack.undeploy(account, STACK);
    }

    /// Starts a function and does not wait for it.
    pub(crate) fn invoke(&self, account: &str, function: &str) {
        self.ask("invoke", account, &["--function", function], "");
    }

    /// Invokes a function (`sentiment`) with an event and returns its answer.
    pub(crate) fn call(&self, account: &str, function: &str, event: &serde_json::Value) -> serde_json::Value {
        let arguments = ["--stack", STACK, "--function", function];
        serde_json::from_str(&self.ask("call", account, &arguments, &event.to_string())).expect("an answer in JSON")
    }

    /// Lets nothing but a call invoke a function (`steward`).
    pub(crate) fn off_schedule(&self, account: &str, function: &str) {
        self.ask("off-schedule", account, &["--stack", STACK, "--function", function], "");
    }

    fn ask(&self, question: &str, account: &str, arguments: &[&str], input: &str) -> String {
        let mut command = self.venv.module("switchyard_localstack.ask");
        command.args([question, "--endpoint", &self.localstack.endpoint(), "--account", account]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("Python runs");
        child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("it listens");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{question}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

async fn prepare_template(postgres: &Postgres) {
    let url = or_panic(postgres.create_database(TEMPLATE_DATABASE).await);
    let client = crate::world::connect(&url).await;
    client.batch_execute(switchyard_feedback::TABLES).await.expect("the sample schema applies");
    drop(client);
    let url: DatabaseUrl = url.parse().expect("our own URL");
    or_panic(crate::database::set_up(&url).await);
}

pub(crate) fn or_panic<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("the servers of the tests cannot start: {error}"))
}
