//! The contract of [`Functions`].

use serde_json::Value;
use switchyard_bus::Functions;

/// A function that answers one request and fails for another.
pub struct FunctionsRig<'a, F> {
    /// What invokes.
    pub functions: F,
    /// The function's name.
    pub function: &'a str,
    /// A request in JSON.
    pub request: &'a str,
    /// Its answer in JSON.
    pub answer: &'a str,
    /// A request in JSON that the function fails at.
    pub failing: &'a str,
    /// A name that no function has.
    pub nobody: &'a str,
}

/// Every promise of functions.
pub async fn keeps_what_functions_promise(rig: FunctionsRig<'_, impl Functions>) {
    let answer = rig.functions.invoke(rig.function, rig.request).await.unwrap();
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(json(&answer), json(rig.answer));

    let failed = rig.functions.invoke(rig.function, rig.failing).await.unwrap_err();
    assert!(!failed.transient && !failed.setup, "the function's own fault: {failed}");
    assert!(failed.detail.contains(rig.function) && failed.detail.contains(" failed: "), "{failed}");

    let nobody = rig.functions.invoke(rig.nobody, rig.request).await.unwrap_err();
    assert!(nobody.setup && !nobody.transient, "{nobody}");
}
