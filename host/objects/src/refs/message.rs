//! What directories tell each other, and what a directory has its node do.
//!
//! Messages from one node to another arrive in the order in which they were sent, or the link breaks and those under way are lost. On the
//! next link each side says first what it has, [`Message::Borrows`] and [`Message::Copies`], and all is as it should be again. The two ways
//! between two nodes may break apart from each other, if both sides say what they have then.

use rwasm_types::{Error, NodeId, ObjectId, Tenant};

use super::entry::Meta;

/// A word from one directory to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// To the owner: somebody here holds it. Answered by `Lent` or `Gone` with the same number, once it is ready.
    Borrow {
        /// Which.
        object: ObjectId,
        /// For whom; another's object is not found.
        tenant: Tenant,
        /// Larger in each later asking.
        number: u64,
    },
    /// To the owner: nobody here holds it any more.
    Return(ObjectId),
    /// To the owner, first on a link: all that is held here of its objects, and nothing else is.
    Borrows(Vec<(ObjectId, Tenant, u64)>),
    /// From the owner: it is ready and held for you.
    Lent {
        /// Which.
        object: ObjectId,
        /// The answered asking.
        number: u64,
        /// What it is.
        meta: Meta,
        /// Where copies are.
        copies: Vec<NodeId>,
    },
    /// From the owner: it is not there.
    Gone {
        /// Which.
        object: ObjectId,
        /// The answered asking.
        number: u64,
        /// Why.
        error: Error,
    },
    /// To whoever had us fetch it: there is a copy here.
    Copy(ObjectId, Meta),
    /// To the same: the copy is gone.
    CopyGone(ObjectId),
    /// To the same, first on a link: all the copies that we have for it, and no others. The number is larger in each later statement.
    Copies(u64, Vec<(ObjectId, Meta)>),
    /// The copy is not needed any more, as far as the statement of that number goes: one that was made since is answered anew.
    Drop(ObjectId, u64),
    /// From the owner: its tenant lets go of it, wherever that holds it.
    Unkeep(ObjectId),
    /// To whoever had us fetch it: nothing here uses the copy, and its room is wanted. Answered by `Drop` if the bytes are elsewhere, too;
    /// else it stays.
    Spare(ObjectId),
}

/// What a directory has its node do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell another node's directory. If there is no link, nothing is lost by not telling: statements begin the next one.
    Send(NodeId, Message),
    /// Delete the copy in this node's store.
    Delete(ObjectId),
    /// Where the owner of a borrowed object knows copies.
    Places(ObjectId, Vec<NodeId>),
    /// It is ready: whoever waits for it may go on.
    Ready(ObjectId),
    /// It is lost: whoever waits for it fails.
    Lost(ObjectId),
}
