//! A world for one test: an account and a database of its own, with the real template deployed into it.

use crate::{Servers, eventually};
use aws_sdk_sqs::types::{Message, QueueAttributeName};
use std::collections::BTreeMap;
use switchyard_localstack::localstack::{Outputs, REGION};
use switchyard_store::{DatabaseUrl, EventsTable, Mode, Since, Store, WaitPolicy, migrate_with};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// One test's AWS account with nothing in it: for what needs a queue or a topic of its own and no stack.
pub struct Account {
    /// Settings for clients of this account, and of no other.
    pub aws: aws_config::SdkConfig,
    /// Its queues.
    pub sqs: aws_sdk_sqs::Client,
    /// Its topics.
    pub sns: aws_sdk_sns::Client,
    id: String,
}

impl Account {
    /// A fresh one.
    pub async fn new() -> Self {
        let servers = Servers::get().await;
        Self::of(servers, servers.next_world())
    }

    fn of(servers: &Servers, number: u32) -> Self {
        let id = format!("{:012}", 100_000_000 + number);
        let aws = aws_settings(servers, &id);
        Self { sqs: aws_sdk_sqs::Client::new(&aws), sns: aws_sdk_sns::Client::new(&aws), aws, id }
    }

    /// A queue of the test's own, subscribed to everything that a topic carries, as it is.
    pub async fn tap(&self, topic_arn: &str) -> Tap {
        tap(&self.sqs, &self.sns, topic_arn).await
    }
}

/// One test's world. Dropping it removes its stack.
pub struct World {
    /// The shared part.
    pub servers: &'static Servers,
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
    /// Settings for clients of this world, and of no other.
    pub aws: aws_config::SdkConfig,
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
        Self::with(&[]).await
    }

    /// A fresh world whose topic and queues are of FIFO, with nothing running yet.
    pub async fn of_fifo() -> Self {
        Self::with(&[("Topology", "fifo")]).await
    }

    /// A fresh world whose template has these parameters, with nothing running yet.
    pub async fn with(parameters: &[(&str, &str)]) -> Self {
        let servers = Servers::get().await;
        let number = servers.next_world();
        let database_url = servers.database(&format!("world_{number}")).await;
        Self::of(servers, number, database_url, parameters).await
    }

    /// The world of another application, whose tables these are and which keeps its events in that one, with nothing running yet.
    pub async fn of_another_application(tables: &str, events: &EventsTable) -> Self {
        let servers = Servers::get().await;
        let number = servers.next_world();
        let url = servers.postgres.create_database(&format!("world_{number}")).await.expect("a database");
        connect(&url).await.batch_execute(tables).await.expect("the application's tables");
        migrate_with(&parse(&url), Some(events), &WaitPolicy::default()).await.expect("the installation");
        Self::of(servers, number, url, &[]).await
    }

    /// The template deployed onto a prepared database, with registered agents.
    pub async fn onto(database_url: &str) -> Self {
        let servers = Servers::get().await;
        Self::deployed(servers, servers.next_world(), database_url.to_owned(), &[]).await
    }

    async fn of(servers: &'static Servers, number: u32, database_url: String, parameters: &[(&str, &str)]) -> Self {
        let store = Store::open(&parse(&database_url), 4).expect("a store");
        for agent in &servers.agents {
            store.register(agent, Mode::Full, Since::Now).await.expect("the agent is registered");
        }
        Self::deployed(servers, number, database_url, parameters).await
    }

    async fn deployed(
        servers: &'static Servers,
        number: u32,
        database_url: String,
        parameters: &[(&str, &str)],
    ) -> Self {
        let Account { aws, sqs, sns, id: account } = Account::of(servers, number);
        let store = Store::open(&parse(&database_url), 4).expect("a store");
        let outputs = servers.deploy(&account, &database_url, parameters);
        Self { database: connect(&database_url).await, sqs, sns, aws, servers, account, database_url, store, outputs }
    }

    /// Starts the shim now instead of at the next minute.
    pub fn wake_shim(&self) {
        self.wake("ShimFunctionName");
    }

    /// From now on the steward makes the passes that the test asks for and no other: for a test that counts what one does.
    pub async fn steward_on_call(&self) {
        self.servers.off_schedule(&self.account, "steward");
        // One that its schedule has just begun has its turn before this one.
        eventually("the steward at rest", async || {
            let pass = self.call("steward", &serde_json::json!({ "action": "pass" }));
            (pass["busy"] == false).then_some(())
        })
        .await;
    }

    /// Starts the function that an output of the stack names, and does not wait for it.
    pub fn wake(&self, output: &str) {
        self.servers.invoke(&self.account, &self.outputs[output]);
    }

    /// A user gives feedback: a row in the application's own table.
    pub async fn post(&self, title: &str, description: &str) -> Uuid {
        insert_post(&self.database, title, description).await
    }

    /// The same by another connection, for a test whose own holds a transaction open.
    pub async fn post_from_elsewhere(&self, title: &str, description: &str) -> Uuid {
        insert_post(&self.another_connection().await, title, description).await
    }

    /// Another connection to this world's database.
    pub async fn another_connection(&self) -> Client {
        connect(&self.database_url).await
    }

    /// The one event of a type about an aggregate, as soon as there is one: its id and payload.
    pub async fn event(&self, event_type: &str, aggregate: &str) -> (Uuid, serde_json::Value) {
        eventually(&format!("{event_type} about {aggregate}"), async || {
            let rows = self
                .database
                .query(
                    "select id, payload::text from switchyard.event where type = $1 and aggregate_id = $2",
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
                               join switchyard.subscription s on s.type = e.type and e.seq >= s.from_seq
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
        let name = format!("switchyard-{logical_id}");
        let queues = self.sqs.list_queues().queue_name_prefix(&name).send().await.expect("the queues");
        // CloudFormation's own names go on with a hyphen, those of FIFO end.
        let is_it = |url: &&String| url.rsplit_once(&name).is_some_and(|(_, rest)| rest.starts_with(['-', '.']));
        let urls: Vec<&String> = queues.queue_urls().iter().filter(is_it).collect();
        let [url] = urls[..] else { panic!("{} queues are called {name}", urls.len()) };
        url.clone()
    }

    /// A queue of the test's own, subscribed to everything that the topic carries, as it is.
    pub async fn tap(&self) -> Tap {
        tap(&self.sqs, &self.sns, &self.outputs["TopicArn"]).await
    }

    /// Puts a body into an agent's queue, past the topic.
    pub async fn send(&self, agent: &str, body: &str) {
        let url = self.queue(&format!("{agent}Queue")).await;
        self.sqs.send_message().queue_url(url).message_body(body).send().await.expect("the queue takes it");
    }

    /// Waits until an agent's queue holds nothing, neither waiting nor being handled.
    pub async fn drained(&self, agent: &str) {
        let url = self.queue(&format!("{agent}Queue")).await;
        eventually(&format!("the queue of {agent} empty"), async || {
            let waiting = self.queue_attribute(&url, QueueAttributeName::ApproximateNumberOfMessages).await;
            let handled = self.queue_attribute(&url, QueueAttributeName::ApproximateNumberOfMessagesNotVisible).await;
            (waiting == "0" && handled == "0").then_some(())
        })
        .await;
    }

    /// Where SNS puts what it cannot deliver to an agent's queue, as the queue's own tag says. Its name does not tell: CloudFormation cuts
    /// a logical id that is so long.
    pub async fn subscription_dead_letters(&self, agent: &str) -> String {
        let queue = self.queue(&format!("{agent}Queue")).await;
        let answer = self.sqs.list_queue_tags().queue_url(queue).send().await.expect("the queue's tags");
        answer.tags.expect("tags")["switchyard:subscription-dead-letters"].clone()
    }

    /// How many messages wait in a queue.
    pub async fn waiting(&self, logical_id: &str) -> u32 {
        self.waiting_in(&self.queue(logical_id).await).await
    }

    /// The same by the queue's URL.
    pub async fn waiting_in(&self, url: &str) -> u32 {
        let waiting = self.queue_attribute(url, QueueAttributeName::ApproximateNumberOfMessages).await;
        waiting.parse().expect("a number")
    }

    async fn queue_attribute(&self, url: &str, name: QueueAttributeName) -> String {
        queue_attribute(&self.sqs, url, name).await
    }

    /// An event appended by the application itself, with a payload to the letter.
    pub async fn append(&self, event_type: &str, aggregate: Uuid, payload: &str) -> Uuid {
        let id = Uuid::new_v4();
        self.database
            .execute(
                "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
                 values ($1, $2, 'thing', $3, $4::text::jsonb, '{}', 1)",
                &[&id, &event_type, &aggregate, &payload],
            )
            .await
            .expect("the application's insert");
        id
    }

    /// Takes an agent off the topic: only the test sends to its function.
    pub async fn deaf(&self, agent: &str) {
        let queue = self.queue(&format!("{agent}Queue")).await;
        let arn = self.queue_attribute(&queue, QueueAttributeName::QueueArn).await;
        let listed = self.sns.list_subscriptions_by_topic().topic_arn(&self.outputs["TopicArn"]).send().await;
        let listed = listed.expect("the subscriptions");
        let own = listed.subscriptions().iter().find(|subscription| subscription.endpoint() == Some(&arn));
        let own = own.and_then(|subscription| subscription.subscription_arn()).expect("a subscription");
        self.sns.unsubscribe().subscription_arn(own).send().await.expect("unsubscribed");
    }

    /// Ends every connection to the database but the test's own, and allows no other.
    pub async fn database_goes_down(&self) {
        self.let_in(false).await;
        let end = "select pg_terminate_backend(pid) from pg_stat_activity
                    where datname = current_database() and pid <> pg_backend_pid()";
        self.database.execute(end, &[]).await.expect("connections end");
    }

    /// Lets everybody in again.
    pub async fn database_comes_back(&self) {
        self.let_in(true).await;
    }

    async fn let_in(&self, everybody: bool) {
        let name: String = self.database.query_one("select current_database()", &[]).await.expect("its name").get(0);
        let admin = connect(&self.servers.postgres.admin_url()).await;
        admin.batch_execute(&format!("alter database {name} allow_connections {everybody}")).await.expect("altered");
    }

    /// Gives an agent's function a batch, as its event source mapping does, and returns the records that must come again.
    pub fn handle(&self, agent: &str, bodies: &[String]) -> Vec<String> {
        let records = bodies.iter().enumerate().map(|(n, body)| {
            serde_json::json!({ "messageId": n.to_string(), "receiptHandle": "none", "body": body, "attributes": {},
                                "messageAttributes": {}, "eventSource": "aws:sqs" })
        });
        let event = serde_json::json!({ "Records": records.collect::<Vec<_>>() });
        let answer = self.servers.call(&self.account, agent, &event);
        let failures = answer["batchItemFailures"].as_array().expect("a partial-batch response, never null");
        failures.iter().filter_map(|failure| failure["itemIdentifier"].as_str().map(str::to_owned)).collect()
    }

    /// Invokes a function (`steward`) with a request and returns its answer.
    pub fn call(&self, function: &str, request: &serde_json::Value) -> serde_json::Value {
        self.servers.call(&self.account, function, request)
    }

    /// The process ids of a function's running bootstraps.
    pub fn pids(&self, function: &str) -> Vec<i32> {
        let folder = self.servers.localstack_dir().join("bootstraps").join(&self.account).join(function);
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        files.filter_map(|file| file.path().file_stem()?.to_str()?.parse().ok()).collect()
    }

    /// The one number that a query answers.
    pub async fn count(&self, sql: &str) -> i64 {
        self.database.query_one(sql, &[]).await.expect("a count").get(0)
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
                .visibility_timeout(43_200)
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

async fn queue_attribute(sqs: &aws_sdk_sqs::Client, url: &str, name: QueueAttributeName) -> String {
    let answer = sqs.get_queue_attributes().queue_url(url).attribute_names(name.clone()).send().await;
    answer.expect("the queue").attributes.and_then(|mut all| all.remove(&name)).expect("the attribute")
}

async fn tap(sqs: &aws_sdk_sqs::Client, sns: &aws_sdk_sns::Client, topic_arn: &str) -> Tap {
    let made = sqs.create_queue().queue_name("tap").send().await.expect("a queue");
    let url = made.queue_url.expect("its URL");
    let arn = queue_attribute(sqs, &url, QueueAttributeName::QueueArn).await;
    let call = sns.subscribe().topic_arn(topic_arn).protocol("sqs").endpoint(arn);
    call.attributes("RawMessageDelivery", "true").send().await.expect("a subscription");
    Tap { sqs: sqs.clone(), url }
}

/// A queue that hears everything.
pub struct Tap {
    sqs: aws_sdk_sqs::Client,
    /// Its address.
    pub url: String,
}

impl Tap {
    /// One on a queue that is subscribed already.
    #[must_use]
    pub fn on(sqs: &aws_sdk_sqs::Client, url: String) -> Self {
        Self { sqs: sqs.clone(), url }
    }

    /// Every body heard that `wanted` says yes to, as soon as there are so many.
    pub async fn hear(&self, expected: usize, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let mut heard: Vec<String> = Vec::new();
        eventually(&format!("{expected} messages on the topic"), async || {
            let bodies = self.take().await.into_iter().filter_map(|message| message.body);
            heard.extend(bodies.filter(|body| wanted(body)));
            (heard.len() >= expected).then_some(())
        })
        .await;
        heard
    }

    /// Every body heard with its attributes, as soon as there are so many.
    pub async fn hear_whole(&self, expected: usize) -> Vec<(String, BTreeMap<String, String>)> {
        let mut heard = Vec::new();
        eventually(&format!("{expected} messages on the topic"), async || {
            heard.extend(self.take().await.into_iter().map(|message| {
                let attributes = message.message_attributes.unwrap_or_default().into_iter();
                let text = attributes.filter_map(|(name, value)| Some((name, value.string_value?))).collect();
                (message.body.unwrap_or_default(), text)
            }));
            (heard.len() >= expected).then_some(())
        })
        .await;
        heard
    }

    /// The receipt handles of so many messages, received and left where they are.
    pub async fn receive_all(&self, expected: usize) -> Vec<String> {
        let mut handles = Vec::new();
        eventually(&format!("{expected} messages"), async || {
            handles.extend(self.receive().await.into_iter().filter_map(|message| message.receipt_handle));
            (handles.len() >= expected).then_some(())
        })
        .await;
        handles
    }

    async fn receive(&self) -> Vec<Message> {
        let call = self.sqs.receive_message().queue_url(&self.url).max_number_of_messages(10);
        let received = call.message_attribute_names("All").send().await;
        received.expect("the tap").messages.unwrap_or_default()
    }

    /// Receives and deletes.
    async fn take(&self) -> Vec<Message> {
        let messages = self.receive().await;
        for handle in messages.iter().filter_map(|message| message.receipt_handle.as_ref()) {
            self.sqs.delete_message().queue_url(&self.url).receipt_handle(handle).send().await.expect("deleted");
        }
        messages
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.servers.undeploy(&self.account);
    }
}

async fn insert_post(client: &Client, title: &str, description: &str) -> Uuid {
    let insert = "insert into posts (project_id, title, description) values ($1, $2, $3) returning id";
    let row = client.query_one(insert, &[&Uuid::from_u128(7), &title, &description]).await;
    row.expect("the application's insert").get(0)
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
fn aws_settings(servers: &Servers, account: &str) -> aws_config::SdkConfig {
    let endpoint = servers.localstack.endpoint();
    assert!(endpoint.starts_with("http://127.0.0.1:"), "these tests talk to nobody but this machine");
    aws_config::SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .http_client(switchyard_bus::aws::https_client())
        .region(aws_config::Region::new(REGION))
        .endpoint_url(endpoint)
        .credentials_provider(aws_sdk_sqs::config::SharedCredentialsProvider::new(
            aws_sdk_sqs::config::Credentials::new(account, "test", None, None, "tests"),
        ))
        .build()
}
