//! The driver: one loop that owns the core, hands it what happened and carries out what it says.
//!
//! Invariant: nobody else calls the core; the loop waits in one place only, never for a queue that somebody who waits
//! for the loop would have to empty; sources are served in a written order, each with a share of every turn.

mod jobs;
mod view;

use crate::{
    clock::{self, Clock},
    device::Device,
    disk::{Disk, Lane, Task},
    handle::{Appended, Catalogue, Command, CommandError},
    net::{
        Order,
        content::Content,
        neighbours::{Neighbours, NotSent},
    },
    publisher::Keys,
    shutdown::Stop,
};
use jobs::Jobs;
use softservice_protocol::{
    id::{Peer, PublisherId},
    io::{Cause, Event, Input, Job, Output, ProvisionInput, ProvisionStep, Setback, Source},
    limits,
    machine::{Core, Settings},
    release::ReleaseRef,
    ticket::Ticket,
    time::{Span, Time},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

/// Inputs of one source that a turn takes: enough to be quick, few enough that the others wait only milliseconds.
const SHARE: usize = 64;
/// Orders to the swarm beyond its queue that may be lost are lost from here on.
const ORDERS_WAITING: usize = 4096;
/// How often fetches are asked whether somebody still waits for them: the future of one may be dropped at any time.
const REVIEW: Duration = Duration::from_secs(1);
/// Fetches whose release is remembered for their later stages, before those that ended are forgotten.
const RELEASES: usize = 256;

/// Where everything comes from, in the order in which a turn looks.
pub(crate) struct Sources {
    /// What the disk has done.
    pub(crate) disk: mpsc::Receiver<Input>,
    /// What the device has done.
    pub(crate) device: mpsc::Receiver<Input>,
    /// Spans that came or did not.
    pub(crate) delivered: mpsc::Receiver<Input>,
    /// What the swarm heard.
    pub(crate) facts: mpsc::Receiver<Input>,
    /// What people want.
    pub(crate) commands: mpsc::Receiver<Command>,
}

/// Everything that the driver works with.
pub(crate) struct Parts {
    pub(crate) me: Peer,
    pub(crate) seed: u64,
    pub(crate) clock: Arc<Clock>,
    pub(crate) disk: Disk,
    pub(crate) device: Device,
    pub(crate) device_answers: mpsc::Sender<Input>,
    pub(crate) keys: Keys,
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) neighbours: Arc<Neighbours>,
    pub(crate) addresses: watch::Receiver<Vec<String>>,
    pub(crate) content: Content,
    pub(crate) catalogue: watch::Sender<Catalogue>,
    /// How many peers are connected.
    pub(crate) peers: watch::Sender<usize>,
}

/// The loop and what it remembers.
pub(crate) struct Driver {
    core: Core,
    parts: Parts,
    orders: Lane<Order>,
    sources: Sources,
    /// Answers that were there at once.
    due: VecDeque<Input>,
    /// When the core wants to be woken.
    wakes: BTreeSet<Time>,
    jobs: Jobs,
    /// What each fetch is about, from its first stage on.
    releases: BTreeMap<Job, ReleaseRef>,
    steps: JoinSet<()>,
    review: Instant,
    /// By how much the core knows the clock to be set back.
    behind: Span,
    catalogue_changed: bool,
}

/// What ended a wait.
enum Happened {
    Stop,
    Input(Input),
    Command(Command),
    /// A lane moved on, or the timer rang: the turn looks after it.
    Time,
}

impl Driver {
    pub(crate) fn new(parts: Parts, sources: Sources) -> Self {
        let (me, seed, outbound) = (parts.me, parts.seed, limits::OUTBOUND_PEERS);
        let settings = Settings { me, seed, outbound, built: clock::built() };
        Self {
            core: Core::new(settings),
            orders: Lane::new(parts.orders.clone()),
            parts,
            sources,
            due: VecDeque::new(),
            wakes: BTreeSet::new(),
            jobs: Jobs::default(),
            releases: BTreeMap::new(),
            steps: JoinSet::new(),
            review: Instant::now() + REVIEW,
            behind: Span(0),
            catalogue_changed: true,
        }
    }

    /// Takes what happened before the loop begins: records first, then interrupted lives, then who we are.
    pub(crate) fn begin(&mut self, inputs: impl IntoIterator<Item = Input>) {
        self.follow_clock();
        for input in inputs {
            self.take(input);
        }
        self.tell_catalogue();
    }

    /// Own and followed publishers.
    pub(crate) fn known(&self) -> Vec<PublisherId> {
        self.core.publishers().map(|view| view.publisher).collect()
    }

    /// Runs until somebody asks to stop; commands that are open then are answered as stopping.
    pub(crate) async fn run(mut self, stop: Stop) {
        loop {
            match self.wait(&stop).await {
                Happened::Stop => break,
                Happened::Input(input) => self.take(input),
                Happened::Command(command) => self.command(command),
                Happened::Time => {}
            }
            self.turn();
        }
        // Steps are journaled and safe to repeat: the next start goes on with them.
        self.steps.shutdown().await;
        let Self { parts, orders, jobs, sources, .. } = self;
        drop((jobs, orders, sources, parts.content, parts.orders));
        parts.disk.stop().await;
    }

    /// The only place where the loop waits.
    async fn wait(&mut self, stop: &Stop) -> Happened {
        let mut timer = self.wakes.first().map(|t| self.parts.clock.instant(*t));
        if self.jobs.fetching() {
            timer = Some(timer.map_or(self.review, |t| t.min(self.review)));
        }
        let ring = async {
            match timer {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let input = |input: Option<Input>| input.map_or(Happened::Stop, Happened::Input);
        tokio::select! {
            biased;
            () = stop.wait() => Happened::Stop,
            answer = self.sources.disk.recv() => input(answer),
            answer = self.sources.device.recv() => input(answer),
            answer = self.sources.delivered.recv() => input(answer),
            fact = self.sources.facts.recv() => input(fact),
            command = self.sources.commands.recv() => command.map_or(Happened::Stop, Happened::Command),
            () = self.parts.disk.keep.drain() => Happened::Time,
            () = self.parts.disk.tasks.drain() => Happened::Time,
            () = self.orders.drain() => Happened::Time,
            () = ring => Happened::Time,
        }
    }

    /// What else is there, a share of each source, then the clock: a flood from one side leaves room for the others.
    fn turn(&mut self) {
        for _ in 0..SHARE {
            let Ok(input) = self.sources.disk.try_recv() else { break };
            self.take(input);
        }
        for _ in 0..SHARE {
            let Ok(input) = self.sources.device.try_recv() else { break };
            self.take(input);
        }
        for _ in 0..SHARE {
            let Ok(input) = self.sources.delivered.try_recv() else { break };
            self.take(input);
        }
        for _ in 0..SHARE {
            let Ok(input) = self.sources.facts.try_recv() else { break };
            self.take(input);
        }
        for _ in 0..SHARE {
            let Ok(command) = self.sources.commands.try_recv() else { break };
            self.command(command);
        }
        self.ring();
        while self.steps.try_join_next().is_some() {}
        self.tell_catalogue();
    }

    /// Wakes the core if it is time, and abandons fetches that nobody waits for.
    fn ring(&mut self) {
        self.follow_clock();
        let now = self.parts.clock.now();
        if self.wakes.first().is_some_and(|at| *at <= now) {
            self.wakes = self.wakes.split_off(&Time(now.0 + 1));
            self.take(Input::Woke);
        }
        if Instant::now() >= self.review {
            self.review = Instant::now() + REVIEW;
            for job in self.jobs.deserted() {
                self.take(Input::Abandon { job });
            }
        }
    }

    /// Tells the core of a clock that was set back.
    fn follow_clock(&mut self) {
        let behind = self.parts.clock.behind();
        if behind != self.behind {
            self.behind = behind;
            self.take(Input::SetBack { behind });
        }
    }

    /// Hands the core one input and carries out what it says, and so on with answers that were there at once.
    fn take(&mut self, input: Input) {
        self.due.push_back(input);
        while let Some(input) = self.due.pop_front() {
            if let Input::Disconnected { peer } = &input {
                self.parts.content.forget(*peer);
            }
            let now = self.parts.clock.now();
            for output in self.core.handle(now, input) {
                self.carry(output);
            }
        }
    }

    fn carry(&mut self, output: Output) {
        match output {
            Output::Wake(at) => {
                self.wakes.insert(at);
            }
            Output::Dial { address } => self.order(Order::Dial { address }),
            Output::Disconnect { peer, ban_until, why } => self.order(Order::Disconnect { peer, ban_until, why }),
            Output::Send { peer, bytes } => {
                if self.parts.neighbours.send(peer, bytes) == Err(NotSent::TooSlow) {
                    let why = "does not read its control messages".into();
                    self.order(Order::Disconnect { peer, ban_until: None, why });
                }
            }
            Output::Topic { publisher, join } => self.order(Order::Topic { publisher, join }),
            Output::Gossip { publisher, bytes } => self.order(Order::Gossip { publisher, bytes }),
            Output::Judge { peer: _, gossip, verdict } => self.order(Order::Judge { gossip, verdict }),
            Output::Keep { token, record } => self.parts.disk.keep.push((token, record)),
            Output::Sign { token, kind, publisher, feed, payload, keys } => {
                let signatures = self.parts.keys.sign(kind, publisher, feed, &payload, &keys);
                self.due.push_back(Input::Signed { token, signatures });
            }
            Output::Expand { job, release, depth } => {
                self.remember(job, release);
                let kin = self.core.kin(release.id);
                self.parts.disk.tasks.push(Task::Expand { job, release, depth, kin });
            }
            Output::Assemble { job, stage } => match self.releases.get(&job) {
                Some(release) => self.parts.disk.tasks.push(Task::Assemble { job, release: *release, stage }),
                None => {
                    let result = Err(Setback::last("the fetch was never begun"));
                    self.due.push_back(Input::Assembled { job, result });
                }
            },
            Output::Survey { peer, release } => self.parts.disk.tasks.push(Task::Survey { peer, release }),
            Output::Request { peer, request, job: _, chunks, base, deadline } => {
                let deadline = self.parts.clock.instant(deadline);
                self.due.extend(self.parts.content.ask(peer, request, chunks, base, deadline));
            }
            Output::Cancel { peer, request } => self.parts.content.cancel(peer, request),
            Output::Perform(step) => self.perform(step),
            Output::Tell(event) => self.tell(event),
        }
    }

    fn order(&mut self, order: Order) {
        if order.may_be_lost() && self.orders.waiting() >= ORDERS_WAITING {
            tracing::warn!("the swarm does not keep up: {order:?} is lost");
        } else {
            self.orders.push(order);
        }
    }

    fn remember(&mut self, job: Job, release: ReleaseRef) {
        if self.releases.len() >= RELEASES && !self.releases.contains_key(&job) {
            let going: BTreeSet<Job> = self.core.transfers().into_iter().map(|t| t.job).collect();
            self.releases.retain(|job, _| going.contains(job));
        }
        self.releases.insert(job, release);
    }

    /// One step of a generation's life, beside the loop; the core has few lives going on.
    fn perform(&mut self, step: ProvisionStep) {
        let (device, answers) = (self.parts.device.clone(), self.parts.device_answers.clone());
        self.steps.spawn(async move {
            let result = device.perform(step.clone()).await;
            let input = match result {
                Ok(()) => ProvisionInput::Done { step },
                Err(why) => ProvisionInput::Failed { step, why },
            };
            let _ = answers.send(Input::Provision(input)).await;
        });
    }

    fn tell(&mut self, event: Event) {
        match event {
            Event::Followed { .. } | Event::Rooted { .. } | Event::Head { .. } | Event::Freshness { .. } => {
                self.catalogue_changed = true;
            }
            Event::Frozen { publisher } => {
                tracing::warn!(%publisher, "publisher signed two different histories; its feed is frozen");
                self.catalogue_changed = true;
            }
            Event::Published { job, head } => {
                self.catalogue_changed = true;
                // Who waits for the answer may look at the catalogue next.
                self.tell_catalogue();
                self.jobs.published(job, Ok(Appended::Published(head)));
            }
            Event::Refreshed { job, asked } => {
                self.tell_catalogue();
                self.jobs.refreshed(job, asked);
            }
            Event::Unstated { publisher } => {
                tracing::warn!(
                    %publisher,
                    "the freshness of this home's publisher was not stated anew: too few keys of its fresh role are here; \
                     its followers will call it stale when the last statement runs out"
                );
                self.catalogue_changed = true;
            }
            Event::Refused { job, cause: Cause::Safety, why } => {
                self.jobs.published(job, Err(CommandError::Refused(why)));
            }
            Event::Refused { job, cause: Cause::Fault, why } => {
                self.jobs.published(job, Err(CommandError::Failed(why)))
            }
            Event::Unsigned { job, publisher: _, request, have, threshold } => {
                self.jobs.published(job, Ok(Appended::Unsigned { request, have, threshold }));
            }
            Event::Progress { job, stage, bytes, of } => {
                self.jobs.progressed(job, stage, bytes, of, self.parts.neighbours.count());
            }
            Event::Fetched { job, figures } => {
                self.releases.remove(&job);
                self.jobs.fetched(job, Ok(figures));
            }
            Event::FetchFailed { job, why, no_peer } => {
                self.releases.remove(&job);
                let error = if no_peer { CommandError::NoPeer(why) } else { CommandError::Failed(why) };
                self.jobs.fetched(job, Err(error));
            }
            Event::Liar { peer, why } => tracing::warn!(peer = peer.short(), "peer lied and was sent away: {why}"),
            Event::Provision(event) => self.jobs.provisioned(&event),
        }
    }

    fn agrees(&self, ticket: &Ticket) -> Result<(), CommandError> {
        self.core.contradiction(ticket).map_or(Ok(()), |contradiction| Err(contradiction.into()))
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Own { publisher, roots, reply } => {
                self.take(Input::Own { publisher, roots });
                let known = self.core.publisher(publisher).is_some_and(|view| view.own);
                self.catalogue_changed = true;
                self.tell_catalogue();
                let refused = || CommandError::Failed("the root documents are not a chain of this publisher".into());
                let _ = reply.send(if known { Ok(()) } else { Err(refused()) });
            }
            Command::Roots { publisher, reply } => {
                let _ = reply.send(Ok(self.core.roots(publisher).to_vec()));
            }
            Command::Publish { publisher, action, request, reply } => {
                if let Some(job) = self.jobs.publish(reply) {
                    self.take(Input::Publish { job, publisher, action, request });
                }
            }
            Command::PublishBy { publisher, action, by, reply } => {
                if let Some(job) = self.jobs.publish(reply) {
                    self.take(Input::PublishBy { job, publisher, action, key: by });
                }
            }
            Command::Append { publisher, envelope, reply } => {
                if let Some(job) = self.jobs.publish(reply) {
                    self.take(Input::Append { job, publisher, envelope });
                }
            }
            Command::Freshen { publisher, reply } => {
                self.take(Input::Freshen { publisher });
                let _ = reply.send(Ok(()));
            }
            Command::Resign { publisher, request, reply } => {
                if let Some(job) = self.jobs.publish(reply) {
                    self.take(Input::Resign { job, publisher, request });
                }
            }
            Command::ReopensAt { publisher, seq, reply } => {
                let _ = reply.send(Ok(self.core.reopens_at(publisher, seq)));
            }
            Command::Unsaid { publisher, reply } => {
                let _ = reply.send(Ok(self.core.unsaid(publisher)));
            }
            Command::Withdraw { publisher, reply } => {
                self.take(Input::Withdraw { publisher });
                let _ = reply.send(Ok(()));
            }
            Command::DealtWith { reply } => {
                self.take(Input::Lossy(false));
                let _ = reply.send(Ok(()));
            }
            Command::Compare { ticket, reply } => {
                let _ = reply.send(self.agrees(&ticket));
            }
            Command::Follow { ticket, mark, reply } => {
                let (publisher, agrees) = (ticket.publisher, self.agrees(&ticket));
                if agrees.is_ok() {
                    self.take(Input::Follow { ticket });
                    if let Some(head) = mark {
                        self.take(Input::Marked { publisher, head });
                    }
                    self.catalogue_changed = true;
                }
                let _ = reply.send(agrees);
            }
            Command::Refresh { publisher, reply } => {
                if let Some(job) = self.jobs.refresh(reply) {
                    self.take(Input::Refresh { job, publisher });
                }
            }
            Command::Unfollow { publisher, reply } => {
                self.take(Input::Unfollow { publisher });
                self.catalogue_changed = true;
                self.tell_catalogue();
                let _ = reply.send(Ok(()));
            }
            Command::Fetch { release, depth, progress, reply } => {
                if let Some(job) = self.jobs.fetch(progress, reply) {
                    self.take(Input::Fetch { job, release, depth });
                }
            }
            Command::Provision { generation, previous, reply } => {
                if self.jobs.provision(generation.clone(), reply) {
                    self.take(Input::Provision(ProvisionInput::Begin { generation, previous }));
                }
            }
            Command::TryAgain { step, reply } => {
                if self.jobs.provision(step.generation.clone(), reply) {
                    self.take(Input::Provision(ProvisionInput::Again { step }));
                }
            }
            Command::Dial { address, reply } => {
                self.take(Input::Found { address, source: Source::Owner });
                let _ = reply.send(Ok(()));
            }
            Command::Status { reply } => {
                let _ = reply.send(Ok(self.status()));
            }
        }
    }
}
