//! The stack's functions, asked by their fixed names.

use crate::{failure::Failure, global::Global, stack, style::print_line};
use serde::{Serialize, de::DeserializeOwned};
use switchyard_bus::{Functions, LambdaFunctions};
use switchyard_operations::{redrive, steward};

/// A deployed stack.
pub(crate) struct Stack {
    name: String,
    functions: LambdaFunctions,
}

impl Stack {
    /// The stack that the command line names; nothing is asked yet.
    pub(crate) async fn of(global: &Global) -> Self {
        let settings = switchyard_bus::aws::settings_at(global.endpoint_url.as_deref()).await;
        Self { name: stack::name(global.stack.as_deref()), functions: LambdaFunctions::new(&settings) }
    }

    /// Asks the redrive function. With `print`, its answer goes to standard output as it came.
    ///
    /// # Errors
    /// The one line for the person: the function's own, or why it could not be asked.
    pub(crate) async fn ask<A: DeserializeOwned>(&self, request: &redrive::Request, print: bool) -> Result<A, Failure> {
        let request = serde_json::to_string(request).map_err(|error| Failure::new(error.to_string()))?;
        self.invoke("redrive", &request, print).await
    }

    /// Asks the steward.
    ///
    /// # Errors
    /// As [`Stack::ask`].
    pub(crate) async fn ask_steward<A: DeserializeOwned>(
        &self,
        request: &steward::Request,
        print: bool,
    ) -> Result<A, Failure> {
        let request = serde_json::to_string(request).map_err(|error| Failure::new(error.to_string()))?;
        self.invoke("steward", &request, print).await
    }

    async fn invoke<A: DeserializeOwned>(&self, function: &str, request: &str, print: bool) -> Result<A, Failure> {
        let function = format!("{}-{function}", self.name);
        // Boxed: the futures of an AWS SDK are so deep that the compiler gives up on laying out one around them.
        let answer = Box::pin(self.functions.invoke(&function, request)).await;
        let answer = answer.map_err(|error| Failure::of_bus(&error, &function, &self.name))?;
        if print {
            print_line(&answer);
        }
        serde_json::from_str(&answer)
            .map_err(|error| Failure::new(format!("{function} is of another version than this program: {error}")))
    }

    /// Prints an answer as JSON.
    pub(crate) fn print(&self, answer: &impl Serialize) -> Result<(), Failure> {
        print_line(serde_json::to_string(answer).map_err(|error| Failure::new(error.to_string()))?);
        Ok(())
    }
}
