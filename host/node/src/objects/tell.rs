//! What this node's directory of objects tells those of other nodes, and what it hears of them.
//!
//! ```text
//! directory ─ Send ─▶ queue of a node ─▶ stream that we dialled ─▶ its directory
//! directory ◀─────────────────────────── stream that it dialled ◀─ queue of this node
//! ```
//!
//! Each way is a stream of its own, dialled by whoever has something to say, again and again until its node is lost. When one begins, both
//! sides say all that they have of each other; so what a broken stream took with it needs not be said again. The order of what is said is
//! that in which the directory came to it: queues are filled under its lock.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rwasm_objects::refs::Message;
use rwasm_runtime::OnEnd;
use rwasm_types::{Code, Error, Incarnation, NodeId, Result};
use rwasm_wire::{Caller, Inbound, Outbound, accept_hello, convert, hello, msg, read_welcome};
use tokio::sync::Notify;

use super::{Objects, words};
use crate::{
    members::{Member, Standing},
    node::Shared,
};

/// The first and the longest pause between attempts to reach a node.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(1);
/// How often is looked whether nodes have been away for too long.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Messages that may wait for one node. Beyond, the stream begins anew, with what is true by then.
const QUEUE_MAX: usize = 1 << 16;
/// Frames that may wait for the network, each of about 1 MiB.
const FRAMES: usize = 2;

/// The ways to and from other directories.
#[derive(Default)]
pub(super) struct Tell {
    state: Mutex<State>,
    /// Told when a way is to be opened.
    wanted: Notify,
}

#[derive(Default)]
struct State {
    ways: HashMap<NodeId, Arc<Way>>,
    to_open: Vec<(NodeId, Arc<Way>)>,
    /// Nodes that were told anything in the life that they are in.
    told: HashSet<NodeId>,
    /// The latest life that was heard of, of each node.
    lives: HashMap<NodeId, Incarnation>,
    /// The streams that nodes dialled: the newest of each is listened to.
    heard: HashMap<NodeId, Arc<Stream>>,
}

/// A stream that a node dialled.
#[derive(Default)]
struct Stream {
    /// Nothing more is heard on it.
    over: AtomicBool,
    ended: Notify,
}

impl Stream {
    fn end(&self) {
        self.over.store(true, Relaxed);
        self.ended.notify_one();
    }
}

/// A way to another node.
struct Way {
    queue: Mutex<VecDeque<Message>>,
    waiting: Notify,
    /// More waited than may: what is queued has a hole.
    overflown: AtomicBool,
    closed: AtomicBool,
}

impl Tell {
    /// Queues a message; called under the directory's lock.
    pub(super) fn send(&self, node: NodeId, message: Message) {
        let mut state = self.state.lock();
        let State { ways, to_open, told, .. } = &mut *state;
        told.insert(node);
        let way = ways.entry(node).or_insert_with(|| {
            let way = Arc::new(Way {
                queue: Mutex::default(),
                waiting: Notify::new(),
                overflown: AtomicBool::new(false),
                closed: AtomicBool::new(false),
            });
            to_open.push((node, Arc::clone(&way)));
            self.wanted.notify_one();
            way
        });
        let mut queue = way.queue.lock();
        if queue.len() >= QUEUE_MAX {
            queue.clear();
            way.overflown.store(true, Relaxed);
        }
        queue.push_back(message);
        drop(queue);
        way.waiting.notify_one();
    }

    /// A node is gone: nothing more is said to it, nor heard of the streams that it dialled.
    fn close(&self, node: NodeId) {
        let mut state = self.state.lock();
        if let Some(way) = state.ways.remove(&node) {
            way.closed.store(true, Relaxed);
            way.waiting.notify_one();
        }
        // It is to see that, and to begin anew if it is there after all.
        if let Some(stream) = state.heard.remove(&node) {
            stream.end();
        }
    }
}

impl Objects {
    /// A node was lost, or this life of it.
    pub(crate) fn node_lost(&self, node: NodeId) {
        self.with_then(|directory| directory.node_lost(node), || self.tell.close(node));
    }

    /// A node is in this life, as somebody says: what it had and held in an earlier one is gone.
    pub(crate) fn node_lives(&self, node: NodeId, life: Incarnation) {
        let later = {
            let mut state = self.tell.state.lock();
            let State { lives, told, .. } = &mut *state;
            let before = *lives.entry(node).or_insert(life);
            if before < life {
                lives.insert(node, life);
                told.remove(&node);
            }
            before < life
        };
        if later {
            self.node_lost(node);
        }
    }

    /// A node in some life dials; its stream ends the one before.
    ///
    /// # Errors
    ///
    /// [`Code::STALE_INCARNATION`] if a later life of it was heard of.
    fn dialled(&self, node: NodeId, life: Incarnation) -> Result<Arc<Stream>> {
        self.node_lives(node, life);
        let stream = Arc::new(Stream::default());
        self.with(|directory| {
            let told = {
                let mut state = self.tell.state.lock();
                let latest = state.lives.get(&node).copied().unwrap_or(life);
                if latest > life {
                    let message = format!("life {life} of node {node} has ended: life {latest} took its place");
                    return Err(Error::new(Code::STALE_INCARNATION, message).with("node", node));
                }
                if let Some(before) = state.heard.insert(node, Arc::clone(&stream)) {
                    before.end();
                }
                state.told.contains(&node)
            };
            if told || directory.concerns(node) {
                directory.linked(node);
            }
            Ok(())
        })?;
        Ok(stream)
    }

    /// Takes what a node's directory says. Whether its stream is still the one to listen to.
    fn hear(&self, node: NodeId, stream: &Stream, messages: Vec<Message>) -> bool {
        self.with(|directory| {
            // Ended under the same lock.
            let current = !stream.over.load(Relaxed);
            for message in messages.into_iter().filter(|_| current) {
                match self.refuse_lent(directory, &message) {
                    None => directory.hear(node, message),
                    Some((object, refusal)) => {
                        directory.hear(node, refusal);
                        self.tell.send(node, Message::Return(object));
                    }
                }
            }
            current
        })
    }
}

impl Shared {
    /// Opens ways to other directories when there is something to say, and lets go of nodes that were away for too long; for as long as the
    /// node runs.
    pub(crate) async fn tell_others(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = self.objects.tell.wanted.notified() => {}
                _ = ticks.tick() => self.members_lost(&self.members.overdue(Instant::now())),
            }
            let to_open = std::mem::take(&mut self.objects.tell.state.lock().to_open);
            for (node, way) in to_open {
                self.scope.spawn("object-words", OnEnd::Continue, run(Arc::downgrade(&self), node, way));
            }
        }
    }

    /// The head said who is there: what nodes had and held that are gone is gone with them.
    pub(crate) fn members_lost(&self, lost: &[NodeId]) {
        for node in lost {
            tracing::info!(%node, "objects of a node that is gone are let go");
            self.objects.node_lost(*node);
        }
    }

    /// Hears another node's directory.
    pub(crate) async fn hear_directory(
        self: &Arc<Self>,
        caller: &Caller,
        mut inbound: Inbound<msg::Telling>,
    ) -> Result<Outbound<Result<msg::Told>>> {
        self.head.proof().check(caller, None)?;
        let first = convert::required(inbound.next().await?.and_then(|first| first.message), "a stream's first message")?;
        let msg::telling::Message::Hello(first) = first else { return Err(convert::malformed("a stream does not begin with a hello")) };
        let (node, greeting) = (convert::node(first.node)?, convert::required(first.hello, "a hello")?);
        self.head.proof().check(caller, Some(node))?;
        let welcome = accept_hello(&greeting, &self.cluster, self.incarnation, Some(self.id))?;
        if self.members.standing(node, Instant::now()) == Standing::Lost {
            // It is let in when the head has taken it back, and not before: what it had here was let go.
            return Err(Error::new(Code::NODE_LOST, format!("node {node} was given up, and the head has not taken it back")));
        }
        let stream = self.objects.dialled(node, Incarnation(greeting.incarnation))?;
        let (sender, outbound) = Outbound::channel(1);
        // The channel was made with room.
        let _ = sender.try_send(Ok(msg::Told { welcome: Some(welcome) }));
        let shared = Arc::downgrade(self);
        self.scope.spawn("object-listener", OnEnd::Continue, async move {
            let error = match listen(&shared, node, &stream, inbound).await {
                Ok(()) => return drop(sender),
                Err(error) => error,
            };
            tracing::debug!(%node, %error, "a directory is not heard any more");
            // It may be gone.
            let _ = sender.try_send(Err(error));
        });
        Ok(outbound)
    }
}

async fn listen(shared: &Weak<Shared>, node: NodeId, stream: &Stream, mut inbound: Inbound<msg::Telling>) -> Result<()> {
    let over = || Error::new(Code::CONNECTION_LOST, format!("node {node} is not listened to on this stream any more"));
    let mut listener = words::Listener::default();
    loop {
        let message = tokio::select! {
            message = inbound.next() => message?,
            () = stream.ended.notified() => return Err(over()),
        };
        let Some(message) = message else { return Ok(()) };
        let msg::telling::Message::Words(words) = convert::required(message.message, "what a directory says")? else {
            return Err(convert::malformed("a second hello"));
        };
        let Some(shared) = shared.upgrade() else { return Ok(()) };
        let heard: Vec<Option<Message>> = words.words.into_iter().map(|word| listener.hear(word)).collect::<Result<_>>()?;
        if !shared.objects.hear(node, stream, heard.into_iter().flatten().collect()) {
            return Err(over());
        }
    }
}

/// Keeps a way open until its node is gone.
async fn run(shared: Weak<Shared>, node: NodeId, way: Arc<Way>) {
    let mut pause = RETRY_FIRST;
    loop {
        let Some(strong) = shared.upgrade() else { return };
        if way.closed.load(Relaxed) {
            return;
        }
        let mut changed = strong.members.subscribe();
        match strong.members.standing(node, Instant::now()) {
            Standing::There(member) => {
                if let Err(error) = converse(strong, &shared, node, member, &way, &mut pause).await {
                    tracing::debug!(%node, %error, "a way to another directory broke");
                }
                // What was under way may be lost, and what both sides have is said anew.
                way.queue.lock().clear();
            }
            Standing::Awaited => drop(strong),
            Standing::Lost => return strong.objects.node_lost(node),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_LONGEST),
            _changed = changed.changed() => pause = RETRY_FIRST,
        }
    }
}

async fn converse(strong: Arc<Shared>, shared: &Weak<Shared>, node: NodeId, member: Member, way: &Way, pause: &mut Duration) -> Result<()> {
    let closed = || Error::new(Code::CONNECTION_LOST, "it closed the connection");
    let first = msg::TellHello { hello: Some(hello(&strong.cluster, strong.incarnation)), node: strong.id.get() };
    let mut client = strong.peer(node, &member.address).await?;
    drop(strong);
    let (sender, outbound) = Outbound::channel(FRAMES);
    let say = |message| msg::Telling { message: Some(message) };
    sender.send(say(msg::telling::Message::Hello(first))).await.map_err(|_gone| closed())?;
    let mut inbound = client.tell(outbound).await?;
    let told = inbound.next().await?.ok_or_else(closed)?;
    let welcome = convert::required(told.welcome, "a welcome")?;
    read_welcome(&welcome)?;
    if welcome.node != node.get() || welcome.incarnation != member.life.0 {
        // The head will say so.
        return Err(Error::new(Code::NODE_LOST, format!("node {node} is in another life than the head said")));
    }
    shared.upgrade().ok_or_else(closed)?.objects.with(|directory| directory.linked(node));
    *pause = RETRY_FIRST;
    loop {
        if way.closed.load(Relaxed) || way.overflown.swap(false, Relaxed) {
            return Err(Error::new(Code::CONNECTION_LOST, "it begins anew"));
        }
        // Taken only when there is room, so that what waits is counted.
        let room = tokio::select! {
            room = sender.reserve() => room.map_err(|_gone| closed())?,
            over = inbound.next() => return over.and_then(|_told| Err(closed())),
        };
        let frame = words::frame(&mut way.queue.lock());
        if frame.is_empty() {
            drop(room);
            tokio::select! {
                () = way.waiting.notified() => continue,
                over = inbound.next() => return over.and_then(|_told| Err(closed())),
            }
        }
        let words = frame.into_iter().flat_map(words::words).collect();
        room.send(say(msg::telling::Message::Words(msg::ObjectWords { words })));
    }
}
