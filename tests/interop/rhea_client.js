// An AMQP 1.0 client on rhea for the interop tests.
//
//   node rhea_client.js receive PORT ADDRESS COUNT   prints "ready", then one JSON line for each message, then "done"
//   node rhea_client.js send PORT ADDRESS COUNT      sends {"sequence": n} maps, prints "done" when all were accepted
//   node rhea_client.js serve PORT ADDRESS COUNT     answers COUNT requests at their reply-to, upper case
//   node rhea_client.js answer PORT ADDRESS COUNT    answers COUNT requests of HTTP (HTTP over AMQP, section 2)
//   node rhea_client.js request PORT ADDRESS COUNT   sends COUNT requests, prints the answers, then "done"
//
// PORT may be the URL of a WebSocket, ws:// or wss://; NODE_EXTRA_CA_CERTS then names the authority to trust.
"use strict";

const [mode, port, address, countText] = process.argv.slice(2);
const count = Number(countText);
const container = require("rhea").create_container({ id: "rhea-" + mode + "-" + process.pid });
let sent = 0;
let settled = 0;
let received = 0;

function say(text) {
  process.stdout.write(text + "\n");
}

function finish(context) {
  say("done");
  context.connection.close();
}

container.on("connection_open", (context) => {
  const connection = context.connection;
  if (mode === "receive" || mode === "serve" || mode === "answer") {
    connection.open_receiver({ source: address, credit_window: 20 });
  } else if (mode === "send") {
    connection.open_sender(address);
  } else {
    connection.open_receiver({ source: { dynamic: true } });
  }
});

container.on("receiver_open", (context) => {
  if (mode === "request") {
    context.connection.reply_to = context.receiver.source.address;
    context.connection.open_sender(address);
  } else {
    say("ready");
  }
});

container.on("sendable", (context) => {
  while (context.sender.sendable() && sent < count && mode !== "serve" && mode !== "answer") {
    sent += 1;
    if (mode === "send") {
      context.sender.send({ message_id: sent, subject: "from rhea", body: { sequence: sent } });
    } else {
      context.sender.send({ correlation_id: sent, reply_to: context.connection.reply_to, body: "request " + sent });
    }
  }
});

container.on("accepted", (context) => {
  settled += 1;
  if (mode === "send" && settled === count) finish(context);
  if ((mode === "serve" || mode === "answer") && settled === count) finish(context);
});

for (const event of ["released", "rejected", "modified", "connection_error", "receiver_error", "sender_error"]) {
  container.on(event, (context) => {
    const error = context.connection.error || (context.receiver && context.receiver.error);
    say(event + " " + JSON.stringify(error || null));
    process.exit(1);
  });
}

container.on("message", (context) => {
  const message = context.message;
  received += 1;
  if (mode === "answer") {
    const path = message.application_properties[":path"];
    context.connection.send({
      to: message.reply_to,
      correlation_id: message.message_id,
      subject: "200",
      application_properties: { "Content-Type": "text/plain", "X-Client": "rhea" },
      body: message.subject + " " + path + " from rhea",
    });
    return;
  }
  if (mode === "serve") {
    const answer = { to: message.reply_to, correlation_id: message.correlation_id, body: message.body.toUpperCase() };
    context.connection.send(answer);
    return;
  }
  say(JSON.stringify({ body: message.body, subject: message.subject, correlation_id: message.correlation_id }));
  if (received === count) {
    context.delivery.accept();
    finish(context);
  }
});

if (port.startsWith("ws")) {
  const websocket = container.websocket_connect(require("ws"));
  container.connect({ connection_details: websocket(port, ["amqp"]), reconnect: false });
} else {
  container.connect({ host: "127.0.0.1", port: Number(port), reconnect: false });
}
