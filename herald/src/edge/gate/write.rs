//! The way of every write: a command is carried out, or judged for a dry run; PoPs are waited for if that was asked;
//! and the answer has the item, the receipt and the warnings.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use herald_core::account::Principal;
use herald_core::check::CheckedContent;
use herald_core::check::Finding;
use herald_core::command::{Action, Command, Context, Prepared};
use herald_core::decide::Subject;
use herald_core::state::{Shared, State};
use herald_core::zone::Zone;
use herald_wire::api::{Wait, Warning, Written};
use serde::Serialize;

use super::idempotency::Key;
use super::room::Room;
use super::{Caller, Notes, WriteOptions};
use crate::clock;
use crate::edge::present;
use crate::edge::problem::{ApiError, Code, Pointers};
use crate::edge::respond;
use crate::engine::SubmitError;

/// Content of more records, and with changes of more RRsets, is staged ahead of the command that names it.
const STAGED_MIN: u64 = 2_000;

/// A [`Caller`] whose whole request was read, so that it can have commands carried out.
pub struct Writer {
    caller: Caller,
    options: WriteOptions,
    /// Why, as the query says.
    message: Option<String>,
    /// Names the request across repetitions.
    key: Option<Key>,
    notes: Arc<Notes>,
    /// What was made of the body is there until the request is carried out.
    _room: Arc<Room>,
}

/// A command that was carried out, or for a dry run would be.
pub struct Done {
    /// The state afterwards.
    pub state: Arc<State>,
    /// What it made or was about.
    pub subject: Option<Subject>,
    /// What is probably not meant.
    pub warnings: Vec<Finding>,
    /// The change's revision; none for a dry run.
    pub revision: Option<u64>,
    /// Whether the request was carried out before: this is what came of it then.
    pub is_repetition: bool,
}

impl Done {
    /// Whether a secret was made that is to be shown, now and never again.
    pub fn has_new_secret(&self) -> bool {
        self.revision.is_some() && !self.is_repetition
    }

    /// What is to be said of a secret that was shown before.
    pub fn secret_warnings(&self) -> Vec<Warning> {
        if !self.is_repetition {
            return Vec::new();
        }
        vec![Warning {
            code: "secret_not_shown_again".into(),
            name: None,
            detail: "this request was carried out before, and the secret was in that answer: it can't be shown again; \
                     if it was lost, make another and do away with this one"
                .into(),
        }]
    }

    /// The zone that the command was about, as it is afterwards.
    pub fn zone(&self) -> Option<&Shared<Zone>> {
        match self.subject {
            Some(Subject::Zone(id)) => self.state.zone(id),
            _ => None,
        }
    }
}

impl Deref for Writer {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl Writer {
    pub(super) fn new(
        caller: Caller,
        options: WriteOptions,
        message: Option<String>,
        key: Option<Key>,
        notes: Arc<Notes>,
        room: Arc<Room>,
    ) -> Writer {
        Writer { caller, options, message, key, notes, _room: room }
    }

    /// Looks at the state anew.
    ///
    /// # Errors
    /// If the credential isn't valid any more.
    pub fn refresh(&mut self) -> Result<(), ApiError> {
        self.caller = self.caller.refreshed()?;
        Ok(())
    }

    /// Has a command of the caller carried out.
    ///
    /// # Errors
    /// The engine's refusal, its items found in the request by `pointers`.
    pub async fn submit(
        &self,
        action: Action,
        message: Option<String>,
        pointers: Pointers,
    ) -> Result<Done, ApiError> {
        self.submit_as(self.caller.principal, action, message, pointers).await
    }

    /// Has a command carried out by the platform itself, on the caller's behalf: for what it found out by itself.
    ///
    /// # Errors
    /// As [`Writer::submit`].
    pub async fn submit_as_system(&self, action: Action, message: Option<String>) -> Result<Done, ApiError> {
        self.submit_as(Principal::System, action, message, Pointers::None).await
    }

    async fn submit_as(
        &self,
        principal: Principal,
        action: Action,
        message: Option<String>,
        pointers: Pointers,
    ) -> Result<Done, ApiError> {
        let is_bulky =
            matches!(&action, Action::ReplaceZone { .. } | Action::CreateZone { content: Some(_), .. });
        let message = message.or_else(|| self.message.clone());
        let context = Context {
            confirmed: self.options.confirm.is_some(),
            idempotency_key: self.key.as_ref().map(Key::request_key),
            ..clock::context(principal, message)
        };
        let command = Command { context, action };
        let engine = &self.caller.app.engine;
        if !self.options.dry_run {
            let committed = engine.submit(command).await.map_err(|e| ApiError::not_submitted(e, pointers))?;
            if committed.is_repetition {
                self.notes.is_repetition.store(true, Ordering::Relaxed);
            }
            return Ok(Done {
                state: committed.state,
                subject: committed.subject,
                warnings: committed.warnings,
                revision: Some(committed.revision),
                is_repetition: committed.is_repetition,
            });
        }
        let judged = if is_bulky {
            let engine = engine.clone();
            blocking(move || engine.dry_run(command)).await?
        } else {
            engine.dry_run(command)
        };
        let (decision, state) = judged.map_err(|e| ApiError::rejected(e, pointers))?;
        Ok(Done {
            state: Arc::new(state),
            subject: decision.subject,
            warnings: decision.warnings,
            revision: None,
            is_repetition: false,
        })
    }

    /// Makes checked content ready for a command, off the runtime's threads: staged, if it is much and changes much.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn prepare(
        &self,
        content: CheckedContent,
        rrsets_changed: u64,
        serial_floor: Option<u32>,
    ) -> Result<Prepared, ApiError> {
        if rrsets_changed.min(content.content().record_count()) <= STAGED_MIN {
            return Ok(Prepared { content, staged: None, serial_floor });
        }
        if self.options.dry_run {
            // To be judged it need not be anywhere.
            return Ok(Prepared { content, staged: Some(Vec::new()), serial_floor });
        }
        let engine = self.caller.app.engine.clone();
        let staged = blocking(move || {
            let staged = engine.stage(content.content())?;
            Ok::<_, SubmitError>(Prepared { content, staged: Some(staged), serial_floor })
        });
        staged.await?.map_err(|e| ApiError::not_submitted(e, Pointers::None))
    }

    /// Until when PoPs are waited for, if they are.
    pub fn waits(&self) -> Option<(Wait, tokio::time::Instant)> {
        self.options.wait.map(|wait| (wait, tokio::time::Instant::now() + self.options.timeout))
    }

    /// Answers a write: after a wait if one was asked for, with the item and the receipt.
    ///
    /// # Errors
    /// None but what a receipt that can't be read is.
    pub async fn answer<T: Serialize>(&self, done: Done, item: Option<T>) -> Result<Answer<T>, ApiError> {
        self.answer_with(done, item, Vec::new()).await
    }

    /// As [`Writer::answer`], with warnings before those of the engine.
    ///
    /// # Errors
    /// As [`Writer::answer`].
    pub async fn answer_with<T: Serialize>(
        &self,
        done: Done,
        item: Option<T>,
        mut warnings: Vec<Warning>,
    ) -> Result<Answer<T>, ApiError> {
        warnings.extend(done.warnings.iter().map(present::warning));
        let Some(revision) = done.revision else {
            return Ok(Answer::new(StatusCode::OK, Written { item, change: None, warnings }));
        };
        let in_time = self.caller.wait(revision, &self.options).await;
        let receipt = self.caller.publisher().receipt(revision).await.ok_or_else(|| {
            ApiError::new(Code::Unavailable, "the change is accepted, and its receipt can't be read")
        })?;
        // What the caller itself did it may see, whatever it was.
        let change = Some(present::change(&self.caller, receipt));
        let status = if in_time { StatusCode::OK } else { StatusCode::ACCEPTED };
        Ok(Answer::new(status, Written { item, change, warnings }))
    }
}

/// Something large that is freed on a thread where that holds nobody up, whenever it goes.
pub struct OffThread<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> OffThread<T> {
    /// Keeps it.
    pub fn new(value: T) -> OffThread<T> {
        OffThread(Some(value))
    }
}

impl<T: Send + 'static> Deref for OffThread<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it goes only once")
    }
}

impl<T: Send + 'static> Drop for OffThread<T> {
    fn drop(&mut self) {
        if let (Some(value), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn_blocking(move || drop(value));
        }
    }
}

/// Does something long on a thread where that holds nobody up.
///
/// # Errors
/// If the daemon is stopping.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ApiError::new(Code::Unavailable, "the control plane is stopping"))
}

/// The answer to a write.
pub struct Answer<T> {
    status: StatusCode,
    written: Written<T>,
    location: Option<String>,
    etag: Option<String>,
}

impl<T: Serialize> Answer<T> {
    fn new(status: StatusCode, written: Written<T>) -> Answer<T> {
        Answer { status, written, location: None, etag: None }
    }

    /// If something was made, it is at this path: 201, unless PoPs were waited for in vain or nothing was done.
    pub fn created_at(mut self, path: Option<String>) -> Answer<T> {
        if let Some(path) = path.filter(|_| self.written.change.is_some()) {
            if self.status == StatusCode::OK {
                self.status = StatusCode::CREATED;
            }
            self.location = Some(format!("{}{path}", herald_wire::api::PREFIX));
        }
        self
    }

    /// Something was made that has no one path: 201, unless PoPs were waited for in vain or nothing was done.
    pub fn created(mut self) -> Answer<T> {
        if self.status == StatusCode::OK && self.written.change.is_some() {
            self.status = StatusCode::CREATED;
        }
        self
    }

    /// PoPs were waited for in vain: 202.
    pub fn late(mut self) -> Answer<T> {
        self.status = StatusCode::ACCEPTED;
        self
    }

    /// The item's tag, without quotes.
    pub fn tagged(mut self, etag: Option<String>) -> Answer<T> {
        self.etag = etag.filter(|_| self.written.change.is_some());
        self
    }
}

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        let mut response = respond::json(self.status, &self.written);
        if let Some(location) = self.location.and_then(|path| HeaderValue::try_from(path).ok()) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        if let Some(etag) = self.etag {
            response.headers_mut().insert(header::ETAG, respond::etag(&etag));
        }
        response
    }
}
