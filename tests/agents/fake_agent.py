# SPDX-License-Identifier: MIT
"""fake_agent.py DIALECT SCENARIO RECORD [the agent's own arguments]

Speaks as claude, codex, opencode, gemini or acp do, with what a scenario tells it: a JSON file,
{"runs": [[step, ...], ...]}, a list of steps for the first run, the second, ...; the last is that of
all later ones. RECORD gets a line for each run: arguments, environment, prompt, and one for each
answer that it got. Steps:

  {"say": TEXT}  {"edit": {"path", "content"}}  {"done": {...}}  {"fail": {"status", "message"}}
  {"waits": {"ms", "status"}}  {"raw": OBJECT}  {"line": TEXT}  {"cut": TEXT}  {"stderr": TEXT}
  {"exit": N}  {"die": SIGNAL}  {"hang": {"ignore": [SIGNAL, ...]}}  {"flood": N}  {"tools": N}
  {"ask": TOOL}  {"launcher": true}  {"await_words": true}  {"await_file": PATH}  {"pause": SECONDS}
  {"play": RECORDING}
  {"no_session": true}  {"step_cut": N}  {"hear": N}  {"huge": BEGINNING}
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time

SESSION = "5e551000-0000-4000-8000-00000000000"


class Agent:
    """What the dialects share."""

    two_way = False

    def __init__(self, run, argv):
        self.run, self.argv = run, argv
        self.calls = 0
        self.resumed = self.session_argument()
        self.session = self.resumed or SESSION + str(run)
        self.incoming = queue.Queue()
        self.tokens = (200, 40)

    def after(self, flag):
        return self.argv[self.argv.index(flag) + 1] if flag in self.argv else None

    def session_argument(self):
        return None

    def put(self, obj):
        self.line(json.dumps(obj))

    @staticmethod
    def line(text, end="\n"):
        sys.stdout.write(text + end)
        sys.stdout.flush()

    def read_prompt(self):
        return sys.stdin.read()

    def edit(self, spec):
        self.calls += 1
        self.tool_begins(f"call-{self.calls}", spec)
        with open(spec["path"], "w", encoding="utf-8") as file:
            file.write(spec["content"])
        self.tool_ends(f"call-{self.calls}", spec)

    def waits(self, spec):
        raise NotImplementedError

    def interrupted(self):
        """The protocol asked for the end of the turn."""
        return False


class Claude(Agent):
    two_way = True

    def session_argument(self):
        return self.after("--resume")

    def read_prompt(self):
        threading.Thread(target=self.listen, daemon=True).start()
        message = self.incoming.get()
        self.put({"type": "user", "message": message["message"], "isReplay": True})
        return message["message"]["content"]

    def listen(self):
        for line in sys.stdin:
            self.incoming.put(json.loads(line))
        self.incoming.put(None)

    def begin(self):
        self.put({"cwd": os.getcwd(), "session_id": self.session, "subtype": "init", "type": "system"})

    def message(self, block):
        self.messages = getattr(self, "messages", 0) + 1
        self.put({"type": "assistant", "message": {
            "id": f"msg-{self.messages}", "model": "m", "content": [block],
            "usage": {"input_tokens": 100, "output_tokens": 1}}})

    def say(self, text):
        self.message({"type": "text", "text": text})

    def tool_begins(self, call, spec):
        self.message({"type": "tool_use", "id": call, "name": "Write", "input": spec})

    def tool_ends(self, call, spec, error=False):
        self.put({"type": "user", "message": {"role": "user", "content": [
            {"tool_use_id": call, "type": "tool_result", "content": "ok", "is_error": error}]}})

    def result(self, **more):
        usage = {"inputTokens": self.tokens[0], "outputTokens": self.tokens[1],
                 "cacheReadInputTokens": 7, "cacheCreationInputTokens": 5}
        result = {"duration_ms": 1, "session_id": self.session, "modelUsage": {"m": usage},
                  "total_cost_usd": 0.25, "usage": {}, "subtype": "success", "is_error": False,
                  "result": "All done.", "permission_denials": [], **more}
        # `type` comes late in what the real one prints.
        self.put({**result, "type": "result"})

    def done(self, spec):
        self.result(**spec)
        while self.incoming.get() is not None:  # it ends when its standard input does
            pass

    def fail(self, spec):
        self.result(is_error=True, api_error_status=spec["status"], modelUsage={},
                    result=f"API Error: {spec['message']}")
        sys.exit(1)

    def waits(self, spec):
        self.put({"type": "system", "subtype": "api_retry", "attempt": 1, "max_retries": 10,
                  "retry_delay_ms": spec["ms"], "error_status": spec["status"],
                  "error": "rate_limit"})

    def ask(self, tool):
        self.put({"type": "control_request", "request_id": "q1", "request": {
            "subtype": "can_use_tool", "tool_name": tool, "input": {"x": 1}}})
        answer = self.incoming.get()["response"]["response"]
        self.put({"type": "user", "message": {"role": "user", "content": [
            {"tool_use_id": "asked", "type": "tool_result", "content": "said",
             "is_error": answer["behavior"] == "deny"}]}})
        return answer

    def await_words(self):
        message = self.incoming.get()
        self.put({"type": "user", "message": message["message"], "isReplay": True})
        return message["message"]["content"]

    def interrupted(self):
        try:
            message = self.incoming.get(timeout=0.05)
        except queue.Empty:
            return False
        if message and message.get("request", {}).get("subtype") == "interrupt":
            self.put({"type": "control_response", "response": {
                "subtype": "success", "request_id": message["request_id"]}})
            self.result(subtype="error_during_execution", is_error=True, result=None,
                        errors=["interrupted"])
            return True
        return False


class Codex(Agent):
    def session_argument(self):
        return self.after("resume")

    def begin(self):
        self.put({"type": "thread.started", "thread_id": self.session})
        self.put({"type": "turn.started"})

    def item(self, kind, **fields):
        self.put({"type": f"item.{kind}", "item": fields})

    def say(self, text):
        self.item("completed", id="m", type="agent_message", text=text)

    def tool_begins(self, call, spec):
        self.item("started", id=call, type="file_change", status="in_progress",
                  changes=[{"path": spec["path"], "kind": "add"}])

    def tool_ends(self, call, spec):
        self.item("completed", id=call, type="file_change", status="completed", changes=[])

    def done(self, spec):
        # Over the whole thread.
        self.put({"type": "turn.completed", "usage": {
            "input_tokens": self.tokens[0] * (self.run + 1), "cached_input_tokens": 50 * (self.run + 1),
            "output_tokens": self.tokens[1] * (self.run + 1), **spec}})

    def fail(self, spec):
        self.put({"type": "turn.failed", "error": {
            "message": f"unexpected status {spec['status']} Oops: {spec['message']}"}})
        sys.exit(1)

    def waits(self, spec):
        self.put({"type": "error", "message": f"Reconnecting... 1/5 (unexpected status {spec['status']})"})


class OpenCode(Agent):
    def session_argument(self):
        return self.after("--session")

    def begin(self):
        pass

    def part(self, kind, **part):
        self.put({"type": kind, "sessionID": self.session, "part": part})

    def say(self, text):
        self.part("text", text=text)

    def tool_begins(self, call, spec):
        pass

    def tool_ends(self, call, spec):
        self.part("tool_use", tool="write", callID=call, state={
            "status": "completed", "input": spec, "output": "ok"})

    def step(self, reason, step):
        self.part("step_finish", id=f"part-{step}", reason=reason, cost=0.125, tokens={
            "input": self.tokens[0] // 2, "output": self.tokens[1] // 2, "reasoning": 0,
            "cache": {"read": 3, "write": 2}})

    def done(self, spec):
        self.step("tool-calls", 1)
        self.step(spec.get("reason", "stop"), 2)

    def fail(self, spec):
        self.put({"type": "error", "sessionID": self.session, "error": {
            "name": "APIError", "data": {"message": spec["message"], "statusCode": spec["status"],
                                         "responseHeaders": {"retry-after": "3600"}}}})
        sys.exit(1)


class Gemini(Agent):
    def session_argument(self):
        return self.after("--resume")

    def begin(self):
        self.put({"session_id": self.session, "model": "m", "type": "init"})

    def say(self, text):
        for piece in (text[:3], text[3:]):
            self.put({"type": "message", "role": "assistant", "content": piece, "delta": True})

    def tool_begins(self, call, spec):
        self.put({"type": "tool_use", "tool_name": "write_file", "tool_id": call, "parameters": spec})

    def tool_ends(self, call, spec):
        self.put({"type": "tool_result", "tool_id": call, "status": "success"})

    def done(self, spec):
        self.put({"type": "result", "status": "success", "stats": {
            "total_tokens": sum(self.tokens) + 10, "input_tokens": self.tokens[0],
            "output_tokens": self.tokens[1], "cached": 50}, **spec})

    def fail(self, spec):
        self.put({"type": "result", "status": "error", "stats": {}, "error": {
            "type": "unknown", "message": '[API Error: {"error":{"code":%d,"message":"%s"}}]' % (
                spec["status"], spec["message"])}})
        sys.exit(spec["status"] % 256)


class Acp(Agent):
    two_way = True
    lost = False

    def get(self):
        line = sys.stdin.readline()
        return json.loads(line) if line else None

    def answer(self, message, result):
        self.put({"result": result, "id": message["id"], "jsonrpc": "2.0"})

    def error(self, message, code, text):
        self.put({"jsonrpc": "2.0", "id": message["id"], "error": {"code": code, "message": text}})

    def hear(self, count):
        """Records what it is told."""
        for _ in range(count):
            record(answer=self.incoming.get())

    def read_prompt(self):
        while True:
            message = self.get()
            if message is None:  # it was only asked to introduce itself
                sys.exit(0)
            method = message["method"]
            if method == "initialize":
                offers = {"sessionCapabilities": {"resume": {}}} if "--false-resume" in self.argv else {}
                self.answer(message, {"protocolVersion": 1, "authMethods": [
                    {"id": "x-api-key"}], "agentCapabilities": {"loadSession": True, **offers}})
            elif method in ("session/new", "session/load") and "--need-auth" in self.argv:
                self.argv = [word for word in self.argv if word != "--need-auth"]
                self.error(message, -32000, "Authentication required")
            elif method == "session/new":
                self.put({"jsonrpc": "2.0", "method": "_unknown/note", "params": {}})
                self.answer(message, {"sessionId": self.session, "modes": {
                    "availableModes": [{"id": "free"}]}})
            elif method == "session/resume":
                self.error(message, -32601, "Method not found")
            elif method == "session/load" and self.lost:
                self.error(message, -32602, "no such session")
            elif method == "session/load":
                self.resumed = self.session = message["params"]["sessionId"]
                self.say("of the past")
                self.answer(message, {})
            elif method == "session/prompt":
                self.prompt_message = message
                threading.Thread(target=self.listen, daemon=True).start()
                return message["params"]["prompt"][0]["text"]
            else:  # authenticate, session/set_mode
                record(answer={"method": method, **message["params"]})
                self.answer(message, {})

    def listen(self):
        for line in sys.stdin:
            self.incoming.put(json.loads(line))
        self.incoming.put(None)

    def begin(self):
        pass

    def update(self, kind, **fields):
        self.put({"jsonrpc": "2.0", "method": "session/update", "params": {
            "sessionId": self.session, "update": {"sessionUpdate": kind, **fields}}})

    def say(self, text):
        for piece in (text[:3], text[3:]):
            self.update("agent_message_chunk", content={"type": "text", "text": piece})

    def tool_begins(self, call, spec):
        self.update("tool_call", toolCallId=call, title="Write", status="pending", rawInput={})
        self.update("tool_call_update", toolCallId=call, rawInput=spec)

    def tool_ends(self, call, spec, status="completed"):
        self.update("tool_call_update", toolCallId=call, status=status, rawOutput="ok")

    def done(self, spec):
        self.update("usage_update", used=1, size=2, cost={"amount": 0.25, "currency": "USD"})
        self.answer(self.prompt_message, {"stopReason": "end_turn", "usage": {
            "inputTokens": self.tokens[0], "outputTokens": self.tokens[1], "cachedReadTokens": 7,
            "cachedWriteTokens": 5}, **spec})
        while (message := self.incoming.get()) is not None:
            if message.get("method") == "session/prompt":  # a person's words
                record(answer=message["params"]["prompt"][0]["text"])
                self.answer(message, {"stopReason": "end_turn"})

    def fail(self, spec):
        self.put({"jsonrpc": "2.0", "id": self.prompt_message["id"], "error": {
            "code": -32603, "message": "Internal error", "data": {
                "details": f"API Error: {spec['status']} {spec['message']}"}}})
        while self.incoming.get() is not None:
            pass

    def ask(self, tool):
        self.put({"jsonrpc": "2.0", "id": 0, "method": "fs/read_text_file", "params": {}})
        refused = self.incoming.get()
        assert refused["error"]["code"] == -32601, refused
        self.put({"jsonrpc": "2.0", "id": 1, "method": "session/request_permission", "params": {
            "sessionId": self.session, "toolCall": {"toolCallId": "asked", "title": tool},
            "options": [{"optionId": "always!", "kind": "allow_always"},
                        {"optionId": "fine!", "kind": "allow_once"},
                        {"optionId": "no!", "kind": "reject_once"}]}})
        answer = self.incoming.get()["result"]["outcome"]
        self.tool_ends("asked", {}, "failed" if answer.get("optionId") == "no!" else "completed")
        return answer

    def interrupted(self):
        try:
            message = self.incoming.get(timeout=0.05)
        except queue.Empty:
            return False
        if message and message.get("method") == "session/cancel":
            self.answer(self.prompt_message, {"stopReason": "cancelled"})
            return True
        return False


DIALECTS = {"claude": Claude, "codex": Codex, "opencode": OpenCode, "gemini": Gemini, "acp": Acp}


def record(**what):
    with open(sys.argv[3], "a", encoding="utf-8") as file:
        file.write(json.dumps(what) + "\n")


def runs_before():
    try:
        with open(sys.argv[3], encoding="utf-8") as file:
            return sum("argv" in json.loads(line) for line in file)
    except FileNotFoundError:
        return 0


def hang(agent, spec):
    for name in spec.get("ignore", []):
        signal.signal(getattr(signal, "SIG" + name), signal.SIG_IGN)
    while not agent.interrupted():
        time.sleep(0.02)


def launch(agent):
    """The rest runs in a child; this process waits for it and keeps all signals from it."""
    child = os.fork()
    if child == 0:
        return
    for name in ("SIGTERM", "SIGINT"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    os.waitpid(child, 0)
    os._exit(0)


def tools(count):
    for _ in range(count):
        subprocess.Popen(["/bin/sh", "-c", "trap '' TERM INT HUP; while :; do sleep 1; done"],
                         start_new_session=True, stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def perform(agent, step):
    (name, value), = step.items()
    if name in ("say", "edit", "done", "fail", "waits", "hear"):
        getattr(agent, name)(value)
    elif name == "ask":
        record(answer=agent.ask(value))
    elif name == "await_words":
        record(answer=agent.await_words())
    elif name == "raw":
        agent.put(value)
    elif name == "line":
        agent.line(value)
    elif name == "huge":
        agent.line(value + "x" * 11_000_000 + '"}}')
    elif name == "cut":
        agent.line(value, end="")
    elif name == "stderr":
        print(value, file=sys.stderr)
    elif name == "exit":
        sys.exit(value)
    elif name == "die":
        os.kill(os.getpid(), getattr(signal, "SIG" + value))
    elif name == "hang":
        hang(agent, value)
    elif name == "flood":
        for number in range(value):
            agent.say(f"again and again {number}")
    elif name == "tools":
        tools(value)
    elif name == "play":
        with open(os.path.join(os.path.dirname(__file__), "recorded", value), encoding="utf-8") as lines:
            for line in lines:
                agent.line(line, end="")
    elif name == "pause":
        time.sleep(value)
    elif name == "await_file":
        while not os.path.exists(value):
            time.sleep(0.02)
    elif name == "launcher":
        launch(agent)
    elif name == "step_cut":
        for number in range(value):
            agent.step("unknown", f"cut-{number}")
            time.sleep(0.001)
    elif name != "no_session":
        raise ValueError(name)


def main():
    dialect, scenario, _, *argv = sys.argv[1:]
    if argv == ["--version"]:
        print(f"fake-{dialect} 1.2.3")
        return
    with open(scenario, encoding="utf-8") as file:
        runs = json.load(file)["runs"]
    run = runs_before()
    agent = DIALECTS[dialect](run, argv)
    steps = runs[min(run, len(runs) - 1)]
    agent.lost = {"no_session": True} in steps
    if agent.lost and agent.resumed:
        record(argv=argv, env=dict(os.environ), prompt="")
        print("no such session", file=sys.stderr)
        sys.exit(1)
    prompt = agent.read_prompt()
    record(argv=argv, env=dict(os.environ), prompt=prompt, session=agent.session, cwd=os.getcwd())
    if {"launcher": True} in steps:
        launch(agent)
    if "play" not in steps[0]:
        agent.begin()
    for step in steps:
        if step != {"launcher": True}:
            perform(agent, step)


main()
