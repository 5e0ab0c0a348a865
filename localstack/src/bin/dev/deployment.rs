//! The functions, from their source to the running stack.

use std::collections::BTreeMap;

use switchyard_localstack::bootstraps::Bootstraps;
use switchyard_localstack::localstack::{self, Outputs, Stack};
use switchyard_localstack::progress::Progress;
use switchyard_localstack::python::Venv;
use switchyard_localstack::{Error, Places};
use switchyard_store::{AgentSpec, Mode, Since, Store};

use uuid::Uuid;

use crate::ask;
use crate::state::{ACCOUNT, STACK};

/// The secret with the database's URL, and the template's parameter that names it.
const SECRET: &str = "switchyard/database";
const SECRET_PARAMETER: &str = "DatabaseSecret";

/// The functions are built for this machine.
const ARCHITECTURE_PARAMETER: &str = "Architecture";

const TEMPLATE: &str = "template.yaml";

/// The output that names the shim's function.
const SHIM: &str = "ShimFunctionName";

/// Tells the ledger of every agent: from now on events of its types are accounted for.
pub(crate) async fn register(store: &Store, bootstraps: &Bootstraps) -> Result<(), Error> {
    for agent in &bootstraps.agents {
        store.register(&bootstraps.declaration::<AgentSpec>(agent)?, Mode::Full, Since::Now).await?;
    }
    Ok(())
}

/// Deploys the template with the functions, and wakes the shim, which would otherwise wait for its schedule.
pub(crate) fn deploy(
    places: &Places,
    venv: &Venv,
    endpoint: &str,
    database_url: &str,
    bootstraps: &Bootstraps,
    progress: Progress<'_>,
) -> Result<Outputs, Error> {
    let stack = Stack {
        account: ACCOUNT.to_owned(),
        name: STACK.to_owned(),
        template: places.root().join(TEMPLATE),
        artifacts: bootstraps.dir.clone(),
        parameters: BTreeMap::from([
            (SECRET_PARAMETER.to_owned(), SECRET.to_owned()),
            (ARCHITECTURE_PARAMETER.to_owned(), architecture().to_owned()),
        ]),
        secrets: BTreeMap::from([(SECRET.to_owned(), serde_json::json!({ "url": database_url }).to_string())]),
    };
    let outputs = localstack::deploy(venv, endpoint, &stack, progress)?;
    if let Some(shim) = outputs.get(SHIM) {
        ask::invoke(venv, endpoint, shim)?;
    }
    Ok(outputs)
}

/// Tells one deployment from another without reading the programs: a placed program keeps the time at which it was built.
pub(crate) fn fingerprint(places: &Places, bootstraps: &Bootstraps) -> Result<String, Error> {
    let template = places.root().join(TEMPLATE);
    let mut key = std::fs::read(&template).map_err(Error::file("read", &template))?;
    for name in &bootstraps.names {
        let program = bootstraps.program(name);
        let about = std::fs::metadata(&program).map_err(Error::file("read", &program))?;
        let built = about.modified().map_err(Error::file("read", &program))?;
        key.extend(format!("\n{name} {} {built:?}", about.len()).into_bytes());
    }
    Ok(Uuid::new_v5(&Uuid::NAMESPACE_URL, &key).to_string())
}

/// This machine's processor in Lambda's words.
fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" }
}
