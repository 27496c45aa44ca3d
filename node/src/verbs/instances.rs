//! TEMP
use super::failure::Failure;
use crate::context::Context;
use serde_json::Value;
use softservice_protocol::id::ReleaseId;
pub(super) async fn summary(_c: &Context) -> Result<Value, Failure> {
    Ok(Value::Array(Vec::new()))
}
pub(super) async fn releases(_c: &Context) -> Result<Vec<ReleaseId>, Failure> {
    Ok(Vec::new())
}
