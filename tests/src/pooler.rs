//! A real pgbouncer in transaction mode, in front of the tests' Postgres.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::OnceCell;

use crate::database;

/// A running pgbouncer. It ends with this value, and also when this process is killed. Where none is installed, a stand-in that
/// points at the server itself.
pub struct Pooler {
    port: u16,
    guard: Option<Child>,
}

static SHARED: OnceCell<Pooler> = OnceCell::const_new();

impl Pooler {
    /// Whether there is one to test with. Where not, says so once, and then what it would have told is passed over: a newcomer's machine
    /// shall not fail for it.
    ///
    /// # Panics
    /// Where it is not installed and this is a continuous integration (`CI` is set), where nobody would read the line.
    pub fn is_installed() -> bool {
        static INSTALLED: OnceLock<bool> = OnceLock::new();
        let installed = *INSTALLED.get_or_init(|| {
            let installed = find("pgbouncer").is_some();
            if !installed {
                // Past the test harness, which keeps back what a passing test prints.
                let line = "\n!!! pgbouncer is not installed: the tests through a pooler are PASSED OVER (apt-get install pgbouncer)\n";
                let _ = std::io::stderr().write_all(line.as_bytes());
            }
            installed
        });
        assert!(installed || std::env::var_os("CI").is_none(), "pgbouncer is not installed: apt-get install pgbouncer");
        installed
    }

    /// The one of this process, started when it is first asked for.
    pub async fn shared(server_url: &str) -> &'static Self {
        SHARED.get_or_init(|| Self::start(server_url)).await
    }

    /// Starts one in front of a server.
    ///
    /// # Panics
    /// Where pgbouncer does not come up, and where [`Pooler::is_installed`] does.
    pub async fn start(server_url: &str) -> Self {
        Self::sized(server_url, 12).await
    }

    /// The same with so many connections to the server for each database.
    ///
    /// # Panics
    /// As [`Pooler::start`].
    pub async fn sized(server_url: &str, connections: u16) -> Self {
        let (host, server_port, user) = database::server(server_url);
        let program = Self::is_installed().then(|| find("pgbouncer")).flatten();
        let Some(program) = program else {
            return Self { port: server_port, guard: None };
        };
        let folder = std::env::temp_dir().join(format!("switchyard-pooler-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).unwrap();
        let port = free_port();
        let config = folder.join("pgbouncer.ini");
        // A pool smaller than the number of clients, so that they really share server connections. Started by root, it
        // must become somebody else.
        let run_as = if is_root() { "user = nobody\n" } else { "" };
        let text = format!(
            "[databases]\n* = host={host} port={server_port} user={user}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nauth_type = any\npool_mode = transaction\nmax_client_conn = 2000\ndefault_pool_size = {connections}\n\
             unix_socket_dir =\n{run_as}"
        );
        std::fs::File::create(&config).and_then(|mut f| f.write_all(text.as_bytes())).unwrap();

        // The shell keeps reading from us: it sees the end also when this process is killed, and takes the pooler along.
        // By KILL: a pooler has nothing to save, and which of the milder signals end it at once differs by version.
        let guard = Command::new("sh")
            .args([
                "-c",
                "\"$@\" >/dev/null 2>&1 </dev/null & p=$!; cat >/dev/null; kill -KILL $p; wait $p; rm -rf \"$0\"",
            ])
            .arg(&folder)
            .arg(program)
            .arg(&config)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pooler = Self { port, guard: Some(guard) };
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        let url = format!("postgresql://{user}@127.0.0.1:{port}/postgres");
        while tokio_postgres::connect(&url, tokio_postgres::NoTls).await.is_err() {
            assert!(tokio::time::Instant::now() < deadline, "pgbouncer does not come up");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        pooler
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        if let Some(guard) = &mut self.guard {
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr()).map(|a| a.port()).unwrap()
}

fn is_root() -> bool {
    // The owner of this process's own entry.
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(Path::new("/proc/self")).is_ok_and(|m| m.uid() == 0)
}
