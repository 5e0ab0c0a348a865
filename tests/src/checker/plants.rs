//! Faults that the checker must find. Most are edits of a function in the servers's own database; some are habits of the
//! simulated agent. None can be switched on anywhere else.

use tokio_postgres::Client as Judge;

/// A habit of the simulated agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Takes a message that it has not seen for an event that it has not done.
    DeduplicateByMessage,
    /// Commits effects first and the settlement after.
    SettleInASecondTransaction,
    /// Applies what it should only have decided.
    ApplyInShadow,
}

/// One edit of a function: `from` must occur in it.
#[derive(Debug)]
pub struct Edit {
    function: &'static str,
    from: &'static str,
    to: &'static str,
}

/// A fault.
#[derive(Debug)]
pub struct Plant {
    /// Its name on the command line.
    pub name: &'static str,
    /// The mistaken assumption.
    pub why: &'static str,
    edits: &'static [Edit],
    /// A habit of the agent.
    pub client: Option<Client>,
    /// Hidden by any other long transaction of the cluster: to be looked for in one world at a time, without dawdling writers.
    pub alone: bool,
}

const fn alone(name: &'static str, why: &'static str, edits: &'static [Edit]) -> Plant {
    Plant { name, why, edits, client: None, alone: true }
}

const fn edited(name: &'static str, why: &'static str, edits: &'static [Edit]) -> Plant {
    Plant { name, why, edits, client: None, alone: false }
}

const fn habit(name: &'static str, why: &'static str, client: Client) -> Plant {
    Plant { name, why, edits: &[], client: Some(client), alone: false }
}

/// All of them.
pub const PLANTS: &[Plant] = &[
    edited(
        "routing_cached",
        "the routing hardly ever changes, so read it once",
        &[Edit {
            function: "_create_deliveries",
            from: "from switchyard.agent a",
            to: "from checker.cached_routing a",
        }],
    ),
    edited(
        "no_row_lock",
        "the update locks the row anyway",
        &[Edit { function: "claim_batch", from: "for update of d", to: "" }],
    ),
    habit("dedup_by_message", "the queue's message id is unique", Client::DeduplicateByMessage),
    edited(
        "watermark_on_seq",
        "what is older than the grace is surely committed",
        &[Edit {
            function: "stable_seq",
            from: "select coalesce(max(f.seq), 0) from switchyard.fence f\n   where f.xid < pg_snapshot_xmin(pg_current_snapshot()) and f.at <= clock_timestamp() - older_than",
            to: "select coalesce((select min(l.seq) - 1 from switchyard.event_log l where l.logged_at >= clock_timestamp() - older_than), switchyard.last_seq())",
        }],
    ),
    edited(
        "reassign_no_lock",
        "the row was unfinished a moment ago",
        &[
            Edit { function: "reassign", from: "for update of d skip locked", to: "" },
            Edit {
                function: "reassign",
                from: "and d.seq = w.seq and d.state in ('a', 'f', 'p');",
                to: "and d.seq = w.seq;",
            },
        ],
    ),
    edited(
        "fail_unchecked",
        "who reports a failure has just worked on it",
        &[Edit {
            function: "_report",
            from: "and o.state in ('a', 'f') and o.owner = p_who and o.epoch = coalesce(g.epoch, o.epoch)",
            to: "",
        }],
    ),
    edited(
        "epoch_ignored",
        "a failure is a failure",
        &[Edit { function: "_report", from: "and o.epoch = coalesce(g.epoch, o.epoch)", to: "" }],
    ),
    habit("settle_second_tx", "the settlement can follow the effects", Client::SettleInASecondTransaction),
    edited(
        "replay_redoes_done",
        "who asks for a replay again wants it again",
        &[
            Edit {
                function: "resend",
                from: "and d.seq = any (p_seqs) and d.state in ('a', 'f', 'p')\n       and",
                to: "and d.seq = any (p_seqs) and (p_run > 0 or d.state in ('a', 'f', 'p'))\n       and",
            },
            Edit {
                function: "resend",
                from: "and d.seq = g.seq and d.state in ('a', 'f', 'p');",
                to: "and d.seq = g.seq;",
            },
        ],
    ),
    edited(
        "fence_xid_first",
        "the order of two reads does not matter",
        &[
            Edit { function: "set_fence", from: "  s := switchyard.last_seq();\n", to: "" },
            Edit {
                function: "set_fence",
                from: "  x := pg_current_xact_id();\n",
                to: "  x := pg_current_xact_id(); perform pg_sleep(0.06); s := switchyard.last_seq();\n",
            },
        ],
    ),
    alone(
        "barrier_too_early",
        "the changing transaction's own id will do",
        &[Edit { function: "set_routing", from: "barrier = null", to: "barrier = pg_current_xact_id()" }],
    ),
    edited(
        "cancel_leaves_open",
        "cancelled rows are enough",
        &[Edit { function: "cancel_run", from: "set open = false", to: "set open = open" }],
    ),
    edited(
        "redrive_redoes_done",
        "who selects it wants it again",
        &[
            Edit { function: "parked_deliveries", from: "d.state = 'p'", to: "d.state in ('p', 'd')" },
            Edit { function: "_send_back", from: "d.state = 'p'", to: "d.state in ('p', 'd')" },
        ],
    ),
    edited(
        "beginning_taken_for_swept",
        "what is that old is surely settled",
        &[Edit { function: "register", from: "p.left_out - 1 from", to: "p.from_seq - 1 from" }],
    ),
    edited(
        "sweep_after_the_end",
        "who unsubscribed can ignore what comes",
        &[
            Edit {
                function: "sweep",
                from: "and (s.until_seq is null or e.seq <= s.until_seq)\n       where e.seq > lo",
                to: "\n       where e.seq > lo",
            },
            Edit {
                function: "_create_deliveries",
                from: "and (s.until_seq is null or",
                to: "and (p_how = 'missing' or s.until_seq is null or",
            },
        ],
    ),
    edited(
        "drop_unfinished",
        "what is that old is surely done",
        &[Edit { function: "drop_oldest", from: "if unfinished then", to: "if false then" }],
    ),
    edited(
        "settle_anywhere",
        "who settles has surely claimed",
        &[Edit { function: "claim_batch", from: "set state = 'd', at", to: "set state = d.state, at" }],
    ),
    habit("apply_in_shadow", "the decision is there, so apply it", Client::ApplyInShadow),
];

impl Plant {
    /// The one of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PLANTS.iter().find(|p| p.name == name)
    }

    /// Plants it in the servers's database.
    ///
    /// # Panics
    /// Where the function no longer reads as the plant expects: then the plant needs a new edit.
    pub async fn apply(&self, judge: &Judge) {
        if self.name == "routing_cached" {
            judge
                .batch_execute(
                    "create table checker.cached_routing as select * from switchyard.agent;
                     create cast (checker.cached_routing as switchyard.agent) with inout as implicit",
                )
                .await
                .expect("a stale copy");
            // Copied when a world begins, and never again.
            judge
                .batch_execute(
                    "create function checker.copy_routing() returns trigger language plpgsql as $$ begin
                       insert into checker.cached_routing select new.*; return null; end $$;
                     create trigger copy after insert on switchyard.agent for each row execute function checker.copy_routing()",
                )
                .await
                .expect("the copying");
        }
        for edit in self.edits {
            let sql = "select pg_get_functiondef(p.oid) from pg_proc p join pg_namespace n on n.oid = p.pronamespace
                        where n.nspname = 'switchyard' and p.proname = $1 order by p.oid limit 1";
            let body: String = judge.query_one(sql, &[&edit.function]).await.expect("the function to edit").get(0);
            assert!(body.contains(edit.from), "{}: `{}` is not in {} any more", self.name, edit.from, edit.function);
            judge.batch_execute(&body.replace(edit.from, edit.to)).await.expect("the edited function");
        }
    }
}
