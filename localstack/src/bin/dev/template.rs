//! `cargo dev template`: an agent's block of `template.yaml`, from what its program declares.

use std::process::ExitCode;

use switchyard_localstack::{Error, Places, bootstraps};

use crate::Outcome;
use crate::arguments::Template;
use crate::steps::Steps;
use crate::style::print_line;

pub(crate) fn run(places: &Places, options: &Template) -> Outcome {
    // The build of `cargo dev`, so that neither repeats the other's work. Its progress goes to standard error.
    let built = Steps::new().run("Functions", |step| {
        let built = bootstraps::build(places, &mut |tick| step.tick(tick))?;
        Ok((built, String::new()))
    })?;
    if !built.agents.contains(&options.agent) {
        return Err(Error::NoAgent { agent: options.agent.clone(), agents: built.agents.join(", ") });
    }
    print_line(switchyard_template::block(&built.declaration(&options.agent)?).trim_end());
    Ok(ExitCode::SUCCESS)
}
