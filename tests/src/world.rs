//! A world for one test: an account and a database of its own, with the real template deployed into it.

use crate::{Lab, eventually};
use aws_sdk_sqs::types::Message;
use switchyard_localstack::localstack::{Outputs, REGION};
use switchyard_store::{DatabaseUrl, Mode, Store};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// One test's world. Dropping it removes its stack.
pub struct World {
    /// The shared part.
    pub lab: &'static Lab,
    /// Its account.
    pub account: String,
    /// Its database, as an operator sees it.
    pub database: Client,
    /// Its database's address.
    pub database_url: String,
    /// Its database, as the functions see it.
    pub store: Store,
    /// What the stack says of itself.
    pub outputs: Outputs,
    /// Its queues.
    pub sqs: aws_sdk_sqs::Client,
    /// Its topics.
    pub sns: aws_sdk_sns::Client,
}

impl World {
    /// A fresh world, agents registered, stack deployed, shim started.
    pub async fn new() -> Self {
        let world = Self::at_rest().await;
        world.wake_shim();
        world
    }

    /// The same with nothing running yet.
    pub async fn at_rest() -> Self {
        let lab = Lab::get().await;
        let number = lab.next_world();
        let account = format!("{:012}", 100_000_000 + number);
        let database_url = lab.database(&format!("world_{number}")).await;
        let store = Store::open(&parse(&database_url), 4).expect("a store");
        for agent in &lab.agents {
            store.register(agent, Mode::Full).await.expect("the agent is registered");
        }
        let outputs = lab.deploy(&account, &database_url, &[]);
        let settings = aws_settings(lab, &account);
        Self {
            database: connect(&database_url).await,
            sqs: aws_sdk_sqs::Client::new(&settings),
            sns: aws_sdk_sns::Client::new(&settings),
            lab,
            account,
            database_url,
            store,
            outputs,
        }
    }

    /// Starts the shim now instead of at the next minute.
    pub fn wake_shim(&self) {
        self.lab.invoke(&self.account, &self.outputs["ShimFunctionName"]);
    }

    /// Somebody gives feedback: a row in the application's own table.
    pub async fn post(&self, title: &str, description: &str) -> Uuid {
        let project = Uuid::from_u128(7);
        let row = self
            .database
            .query_one(
                "insert into posts (project_id, title, description) values ($1, $2, $3) returning id",
                &[&project, &title, &description],
            )
            .await
            .expect("the application's insert");
        row.get(0)
    }

    /// The one event of a type about an aggregate, as soon as there is one: its id and payload.
    pub async fn event(&self, event_type: &str, aggregate: &str) -> (Uuid, serde_json::Value) {
        eventually(&format!("{event_type} about {aggregate}"), async || {
            let rows = self
                .database
                .query(
                    "select id, payload::text from events where type = $1 and aggregate_id::text = $2",
                    &[&event_type, &aggregate],
                )
                .await
                .expect("a look at the events");
            assert!(rows.len() < 2, "{event_type} about {aggregate} was said {} times", rows.len());
            rows.first().map(|row| (row.get(0), serde_json::from_str(row.get(1)).expect("JSON")))
        })
        .await
    }

    /// Waits until nothing is pending and every delivery of every agent is settled or parked.
    pub async fn settled(&self) {
        eventually("everything settled", async || {
            let row = self
                .database
                .query_one(
                    "select (select count(*) from switchyard.outbox)
                          + (select count(*) from switchyard.event_log e
                               join switchyard.subscription s on s.type = e.type
                               left join switchyard.delivery d on d.agent = s.agent and d.run = 0 and d.seq = e.seq
                              where d.state is null or d.state::text in ('a', 'f'))",
                    &[],
                )
                .await
                .expect("a look at the ledger");
            (row.get::<_, i64>(0) == 0).then_some(())
        })
        .await;
    }

    /// The URL of a queue of this stack by its logical id.
    pub async fn queue(&self, logical_id: &str) -> String {
        let prefix = format!("switchyard-{logical_id}-");
        let queues = self.sqs.list_queues().queue_name_prefix(&prefix).send().await.expect("the queues");
        let [url] = queues.queue_urls() else { panic!("{} queues are called {prefix}*", queues.queue_urls().len()) };
        url.clone()
    }

    /// What lies in a dead-letter queue, as soon as there are so many.
    pub async fn dead_letters(&self, agent: &str, expected: usize) -> Vec<Message> {
        let url = self.queue(&format!("{agent}DeadLetterQueue")).await;
        let mut found: Vec<Message> = Vec::new();
        eventually(&format!("{expected} dead letters of {agent}"), async || {
            let received = self
                .sqs
                .receive_message()
                .queue_url(&url)
                .max_number_of_messages(10)
                .message_attribute_names("All")
                .send()
                .await
                .expect("the dead-letter queue");
            found.extend(received.messages.unwrap_or_default());
            (found.len() >= expected).then_some(())
        })
        .await;
        found
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.lab.undeploy(&self.account);
    }
}

/// An operator's connection.
pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the database of this test");
    tokio::spawn(connection);
    client
}

fn parse(url: &str) -> DatabaseUrl {
    url.parse().expect("our own URL")
}

/// Settings that can only reach this LocalStack: its address on the loopback, and a key that is an account there and nowhere else.
fn aws_settings(lab: &Lab, account: &str) -> aws_config::SdkConfig {
    let endpoint = lab.localstack.endpoint();
    assert!(endpoint.starts_with("http://127.0.0.1:"), "these tests talk to nobody but this machine");
    aws_config::SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new(REGION))
        .endpoint_url(endpoint)
        .credentials_provider(aws_sdk_sqs::config::SharedCredentialsProvider::new(
            aws_sdk_sqs::config::Credentials::new(account, "test", None, None, "tests"),
        ))
        .build()
}
