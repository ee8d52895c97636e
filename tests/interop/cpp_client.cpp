// An AMQP 1.0 client on Proton's C++ binding for the interop tests; the same modes as rhea_client.js.
//
//   cpp_client receive|send|serve|request PORT ADDRESS COUNT

#include <proton/codec/map.hpp>
#include <proton/connection.hpp>
#include <proton/connection_options.hpp>
#include <proton/container.hpp>
#include <proton/delivery.hpp>
#include <proton/error_condition.hpp>
#include <proton/map.hpp>
#include <proton/message.hpp>
#include <proton/message_id.hpp>
#include <proton/messaging_handler.hpp>
#include <proton/receiver_options.hpp>
#include <proton/scalar.hpp>
#include <proton/sender_options.hpp>
#include <proton/source.hpp>
#include <proton/source_options.hpp>
#include <proton/target_options.hpp>
#include <proton/tracker.hpp>
#include <proton/transport.hpp>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>

namespace {

class Client : public proton::messaging_handler {
 public:
  Client(std::string mode, std::string url, std::string address, int count)
      : mode_(std::move(mode)), url_(std::move(url)), address_(std::move(address)), count_(count) {}

 private:
  void say(const std::string& line) { std::cout << line << std::endl; }

  void fail(const std::string& line) {
    say(line);
    std::exit(1);
  }

  void on_container_start(proton::container& container) override {
    container.connect(url_, proton::connection_options().sasl_allowed_mechs("ANONYMOUS"));
  }

  void on_connection_open(proton::connection& connection) override {
    if (mode_ == "receive" || mode_ == "serve") {
      connection.open_receiver(address_, proton::receiver_options().credit_window(20));
      if (mode_ == "serve") {
        proton::target_options relay = proton::target_options().anonymous(true);
        sender_ = connection.open_sender("", proton::sender_options().target(relay));
      }
    } else if (mode_ == "send") {
      sender_ = connection.open_sender(address_);
    } else {
      connection.open_receiver("", proton::receiver_options().source(proton::source_options().dynamic(true)));
    }
  }

  void on_receiver_open(proton::receiver& receiver) override {
    if (mode_ == "request") {
      reply_to_ = receiver.source().address();
      sender_ = receiver.connection().open_sender(address_);
    } else {
      say("ready");
    }
  }

  void on_sendable(proton::sender& sender) override {
    while (mode_ != "serve" && sender.credit() > 0 && sent_ < count_) {
      ++sent_;
      proton::message message;
      if (mode_ == "send") {
        std::map<std::string, int> body;
        body["sequence"] = sent_;
        message.subject("from cpp");
        message.body(body);
      } else {
        message.correlation_id(static_cast<uint64_t>(sent_));
        message.reply_to(reply_to_);
        message.body("request " + std::to_string(sent_));
      }
      sender.send(message);
    }
  }

  void on_message(proton::delivery& delivery, proton::message& message) override {
    ++received_;
    if (mode_ == "serve") {
      std::string body = proton::get<std::string>(message.body());
      std::transform(body.begin(), body.end(), body.begin(), ::toupper);
      proton::message answer;
      answer.to(message.reply_to());
      answer.correlation_id(message.correlation_id());
      answer.body(body);
      sender_.send(answer);
      return;
    }
    if (mode_ == "request") {
      say("{\"correlation_id\": " + proton::to_string(message.correlation_id()) + ", \"body\": \"" +
          proton::get<std::string>(message.body()) + "\"}");
    } else {
      std::map<std::string, proton::scalar> body;
      proton::get(message.body(), body);
      int64_t sequence = proton::coerce<int64_t>(body["sequence"]);  // each client has a type of its own for a number
      say("{\"body\": {\"sequence\": " + std::to_string(sequence) + "}, \"subject\": \"" + message.subject() +
          "\"}");
    }
    if (received_ == count_) {
      delivery.accept();
      finish(delivery.connection());
    }
  }

  void on_tracker_accept(proton::tracker& tracker) override {
    ++settled_;
    if ((mode_ == "send" || mode_ == "serve") && settled_ == count_) finish(tracker.connection());
  }

  void on_tracker_reject(proton::tracker&) override { fail("rejected"); }
  void on_tracker_release(proton::tracker&) override { fail("released"); }
  void on_error(const proton::error_condition& error) override { fail("error " + error.what()); }

  void finish(proton::connection connection) {
    say("done");
    connection.close();
  }

  std::string mode_, url_, address_, reply_to_;
  int count_, sent_ = 0, settled_ = 0, received_ = 0;
  proton::sender sender_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  Client client(argv[1], std::string("127.0.0.1:") + argv[2], argv[3], std::atoi(argv[4]));
  proton::container(client).run();
  return 0;
}
