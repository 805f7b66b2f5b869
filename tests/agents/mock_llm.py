#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""mock_llm.py - a deterministic, scenario-driven mock of four model APIs.

Python 3 standard library only; listens on 127.0.0.1 only; needs no credentials
(any API key is accepted).  See README.md for scenarios and for the command
line of each agent CLI.

  POST  */v1/messages                     Anthropic Messages        (SSE or JSON)
  POST  */responses                       OpenAI Responses          (SSE or JSON)
  POST  */chat/completions                OpenAI Chat Completions   (SSE or JSON)
  POST  */models/M:streamGenerateContent  Gemini                    (SSE)
  POST  */models/M:generateContent        Gemini                    (JSON)
  plus token counting, model lists, and 404 for the rest.
"""
import argparse
import json
import os
import re
import select
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# --------------------------------------------------------------------------
# Requests: every API is reduced to the same small dictionary.
#   api, model, stream, tools  {name: "function"|"custom"}
#   turns  list of ("user"|"assistant"|"tool"|other, text) in order
# --------------------------------------------------------------------------


def flat(x):
    """All text inside a message's content, whatever its shape."""
    if x is None:
        return ""
    if isinstance(x, str):
        return x
    if isinstance(x, list):
        return "\n".join(t for t in map(flat, x) if t)
    if isinstance(x, dict):
        for k in ("text", "content", "output", "response", "parts"):
            if k in x:
                return flat(x[k])
        return json.dumps(x, sort_keys=True)
    return str(x)


def parse_anthropic(body, path):
    turns = []
    for m in body.get("messages", []):
        content = m.get("content")
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        # Text that shares a message with a tool result is a reminder from the
        # agent, not a new prompt.
        role = m.get("role", "user")
        if any(b.get("type") == "tool_result" for b in content or []):
            role = "note"
        for b in content or []:
            kind = b.get("type")
            if kind == "tool_result":
                turns.append(("tool", flat(b.get("content"))))
            elif kind == "tool_use":
                turns.append(("assistant", "tool_use " + b.get("name", "")))
            elif kind == "text":
                turns.append((role, b.get("text", "")))
    tools = {t["name"]: "function" for t in body.get("tools") or [] if "name" in t}
    return dict(api="anthropic", model=body.get("model"), turns=turns,
                tools=tools, stream=bool(body.get("stream")))


def parse_responses(body, path):
    turns = []
    items = body.get("input") or []
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    for it in items:
        kind = it.get("type", "message")
        if kind == "message" and it.get("role") in ("user", "assistant"):
            turns.append((it["role"], flat(it.get("content"))))
        elif kind.endswith("_call_output"):
            turns.append(("tool", flat(it.get("output"))))
        elif kind.endswith("_call"):
            turns.append(("assistant", "tool_use " + str(it.get("name", kind))))
    tools = {}
    for t in body.get("tools") or []:
        if t.get("type") == "namespace":        # codex groups MCP tools like this
            continue
        tools[t.get("name") or t.get("type")] = t.get("type", "function")
    return dict(api="responses", model=body.get("model"), turns=turns,
                tools=tools, stream=bool(body.get("stream")))


def parse_chat(body, path):
    turns = []
    for m in body.get("messages", []):
        role = m.get("role")
        if role == "tool":
            turns.append(("tool", flat(m.get("content"))))
        elif role in ("user", "assistant"):
            for c in m.get("tool_calls") or []:
                turns.append(("assistant", "tool_use " + c["function"]["name"]))
            if m.get("content"):
                turns.append((role, flat(m["content"])))
    tools = {t["function"]["name"]: "function" for t in body.get("tools") or []
             if "function" in t}
    return dict(api="chat", model=body.get("model"), turns=turns, tools=tools,
                stream=bool(body.get("stream")))


def parse_gemini(body, path):
    turns = []
    for c in body.get("contents", []):
        for p in c.get("parts", []):
            if "functionResponse" in p:
                turns.append(("tool", flat(p["functionResponse"].get("response"))))
            elif "functionCall" in p:
                turns.append(("assistant", "tool_use " + p["functionCall"]["name"]))
            elif "text" in p:
                role = "assistant" if c.get("role") == "model" else "user"
                if any("functionResponse" in q for q in c["parts"]):
                    role = "note"
                turns.append((role, p["text"]))
    tools = {f["name"]: "function" for t in body.get("tools") or []
             for f in t.get("functionDeclarations") or []}
    model = re.search(r"/models/([^:/]+)", path)
    return dict(api="gemini", model=model and model.group(1), turns=turns,
                tools=tools, stream="streamGenerateContent" in path)


# --------------------------------------------------------------------------
# Abstract tool calls -> the tool the calling agent really offered.
# {"write": {"path": P, "content": C}}   or   {"shell": "command line"}
# or, to name a tool outright, {"name": N, "args": {...}}
# Result: (name, args) where args is a dict, or a str for a "custom" tool.
# --------------------------------------------------------------------------


def sh_write(w):
    return "printf %%s '%s' > '%s'" % (w["content"].replace("'", "'\\''"), w["path"])


def pick_tool(spec, tools):
    if "name" in spec:
        return spec["name"], spec.get("args", {})
    if "write" in spec:
        w = spec["write"]
        if "Write" in tools:                                  # Claude Code
            return "Write", {"file_path": w["path"], "content": w["content"]}
        if "write_file" in tools:                             # Gemini, Qwen
            return "write_file", {"file_path": w["path"], "content": w["content"]}
        if "write" in tools:                                  # OpenCode
            return "write", {"filePath": w["path"], "content": w["content"]}
        if tools.get("apply_patch") == "custom":              # Codex
            lines = "".join("+%s\n" % s for s in w["content"].splitlines())
            return "apply_patch", ("*** Begin Patch\n*** Add File: %s\n%s*** End Patch\n"
                                   % (w["path"], lines))
        spec = {"shell": sh_write(w)}
    cmd = spec["shell"]
    if "exec_command" in tools:                               # Codex, unified exec
        return "exec_command", {"cmd": cmd}
    if "shell_command" in tools:                              # Codex
        return "shell_command", {"command": cmd}
    if "shell" in tools:                                      # Codex, older
        return "shell", {"command": ["bash", "-c", cmd]}
    if "run_shell_command" in tools:                          # Gemini, Qwen
        return "run_shell_command", {"command": cmd, "description": "mock",
                                     "is_background": False}
    if "Bash" in tools:                                       # Claude Code
        return "Bash", {"command": cmd, "description": "mock"}
    if "bash" in tools:                                       # OpenCode
        return "bash", {"command": cmd, "description": "mock"}
    return None, None


# --------------------------------------------------------------------------
# Replies.  Each encoder returns (list of SSE events, JSON body); an event is
# (event name or None, data object or str).
# --------------------------------------------------------------------------

USAGE_IN, USAGE_OUT = 100, 20
MEETING = 120  # seconds that those who meet wait for the last


def enc_anthropic(req, n, text, call, used):
    mid = "msg_mock_%04d" % n
    blocks = []
    if text:
        blocks.append({"type": "text", "text": text})
    if call:
        blocks.append({"type": "tool_use", "id": "toolu_mock_%04d" % n,
                       "name": call[0], "input": call[1]})
    stop = "tool_use" if call else "end_turn"
    usage = {"input_tokens": used[0], "output_tokens": used[1],
             "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    full = {"id": mid, "type": "message", "role": "assistant", "model": req["model"],
            "content": blocks, "stop_reason": stop, "stop_sequence": None, "usage": usage}
    ev = [("message_start", {"type": "message_start", "message": dict(
        full, content=[], stop_reason=None, usage=dict(usage, output_tokens=1))})]
    for i, b in enumerate(blocks):
        if b["type"] == "text":
            start, delta = dict(b, text=""), {"type": "text_delta", "text": b["text"]}
        else:
            start = dict(b, input={})
            delta = {"type": "input_json_delta", "partial_json": json.dumps(b["input"])}
        ev += [("content_block_start", {"type": "content_block_start", "index": i,
                                        "content_block": start}),
               ("content_block_delta", {"type": "content_block_delta", "index": i,
                                        "delta": delta}),
               ("content_block_stop", {"type": "content_block_stop", "index": i})]
    ev += [("message_delta", {"type": "message_delta",
                              "delta": {"stop_reason": stop, "stop_sequence": None},
                              "usage": usage}),
           ("message_stop", {"type": "message_stop"})]
    return ev, full


def enc_responses(req, n, text, call, used):
    rid = "resp_mock_%04d" % n
    items = []
    if text:
        items.append({"type": "message", "id": "msg_mock_%04d" % n, "role": "assistant",
                      "status": "completed",
                      "content": [{"type": "output_text", "text": text, "annotations": []}]})
    if call:
        base = {"id": "item_mock_%04d" % n, "call_id": "call_mock_%04d" % n,
                "name": call[0], "status": "completed"}
        if isinstance(call[1], str):
            items.append(dict(base, type="custom_tool_call", input=call[1]))
        else:
            items.append(dict(base, type="function_call", arguments=json.dumps(call[1])))
    usage = {"input_tokens": used[0], "input_tokens_details": {"cached_tokens": 0},
             "output_tokens": used[1], "output_tokens_details": {"reasoning_tokens": 0},
             "total_tokens": sum(used)}
    resp = {"id": rid, "object": "response", "created_at": 0, "model": req["model"],
            "status": "in_progress", "output": []}
    full = dict(resp, status="completed", output=items, usage=usage)
    ev = [("response.created", {"type": "response.created", "response": resp})]
    for i, it in enumerate(items):
        added = dict(it, status="in_progress")
        if it["type"] == "message":
            added["content"] = []
        elif it["type"] == "function_call":
            added["arguments"] = ""
        else:
            added["input"] = ""
        ev.append(("response.output_item.added",
                   {"type": "response.output_item.added", "output_index": i, "item": added}))
        if it["type"] == "message":
            ev.append(("response.output_text.delta",
                       {"type": "response.output_text.delta", "item_id": it["id"],
                        "output_index": i, "content_index": 0, "delta": text}))
        elif it["type"] == "function_call":
            ev.append(("response.function_call_arguments.delta",
                       {"type": "response.function_call_arguments.delta",
                        "item_id": it["id"], "output_index": i, "delta": it["arguments"]}))
        ev.append(("response.output_item.done",
                   {"type": "response.output_item.done", "output_index": i, "item": it}))
    ev.append(("response.completed", {"type": "response.completed", "response": full}))
    for seq, (_, data) in enumerate(ev):
        data["sequence_number"] = seq
    return ev, full


def enc_chat(req, n, text, call, used):
    cid = "chatcmpl-mock-%04d" % n
    stop = "tool_calls" if call else "stop"
    usage = {"prompt_tokens": used[0], "completion_tokens": used[1], "total_tokens": sum(used)}
    msg = {"role": "assistant", "content": text or None}
    if call:
        msg["tool_calls"] = [{"id": "call_mock_%04d" % n, "type": "function",
                              "function": {"name": call[0],
                                           "arguments": json.dumps(call[1])}}]
    full = {"id": cid, "object": "chat.completion", "created": 0, "model": req["model"],
            "choices": [{"index": 0, "message": msg, "finish_reason": stop}], "usage": usage}

    def chunk(delta, fin=None, **kw):
        return (None, dict({"id": cid, "object": "chat.completion.chunk", "created": 0,
                            "model": req["model"],
                            "choices": [{"index": 0, "delta": delta,
                                         "finish_reason": fin}]}, **kw))
    ev = [chunk({"role": "assistant", "content": ""})]
    if text:
        ev.append(chunk({"content": text}))
    if call:
        ev.append(chunk({"tool_calls": [dict(msg["tool_calls"][0], index=0)]}))
    ev.append(chunk({}, stop, usage=usage))
    ev.append((None, "[DONE]"))
    return ev, full


def enc_gemini(req, n, text, call, used):
    parts = []
    if text:
        parts.append({"text": text})
    if call:
        parts.append({"functionCall": {"id": "call_mock_%04d" % n, "name": call[0],
                                       "args": call[1]}})
    full = {"candidates": [{"content": {"role": "model", "parts": parts}, "index": 0,
                            "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": used[0],
                              "candidatesTokenCount": used[1],
                              "totalTokenCount": sum(used)},
            "modelVersion": req["model"], "responseId": "resp-mock-%04d" % n}
    first = {"candidates": [{"content": {"role": "model", "parts": parts}, "index": 0}],
             "modelVersion": req["model"], "responseId": full["responseId"]}
    last = dict(full, candidates=[{"content": {"role": "model", "parts": [{"text": ""}]},
                                   "index": 0, "finishReason": "STOP"}])
    return [(None, first), (None, last)], full


ENCODE = {"anthropic": enc_anthropic, "responses": enc_responses,
          "chat": enc_chat, "gemini": enc_gemini}

ANTHROPIC_ERR = {400: "invalid_request_error", 401: "authentication_error",
                 403: "permission_error", 404: "not_found_error",
                 429: "rate_limit_error", 529: "overloaded_error"}
GEMINI_ERR = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED",
              429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}


def error_body(api, status, message):
    if api == "anthropic":
        return {"type": "error", "request_id": "req_mock",
                "error": {"type": ANTHROPIC_ERR.get(status, "api_error"),
                          "message": message}}
    if api == "gemini":
        return {"error": {"code": status, "message": message,
                          "status": GEMINI_ERR.get(status, "UNKNOWN")}}
    return {"error": {"message": message, "type": "mock_error", "param": None,
                      "code": {401: "invalid_api_key",
                               429: "rate_limit_exceeded"}.get(status)}}


# --------------------------------------------------------------------------
# Scenario: the first matching rule answers.
# --------------------------------------------------------------------------

BUILTIN = {"rules": [
    {"match": {"tools": False}, "reply": {"text": "Mock title"}},
    {"match": {"tool_results": 0}, "reply": {
        "text": "I will create the file.",
        "tool": {"write": {"path": "hello.txt", "content": "hello from the mock\n"}}}},
    {"reply": {"text": "All done."}},
]}


class Scenario:
    def __init__(self, spec):
        self.rules = spec["rules"]
        self.used = [0] * len(self.rules)
        self.count = 0
        self.lock = threading.Lock()

    @staticmethod
    def summary(req):
        """What rules may match on; recomputed from each request, no state kept."""
        results, before, prompt = 0, None, []
        for role, text in req["turns"]:
            if role == "user":
                if before != "user":          # a new prompt begins
                    prompt, results = [], 0
                prompt.append(text)
            elif role == "tool":
                results += 1
            elif role != "assistant":         # notes, system text: no turn
                continue
            before = role
        return {"user": "\n".join(prompt), "tool_results": results,
                "tools": bool(req["tools"])}

    def choose(self, req):
        s = self.summary(req)
        with self.lock:
            self.count += 1
            for i, rule in enumerate(self.rules):
                m = rule.get("match", {})
                if "times" in rule and self.used[i] >= rule["times"]:
                    continue
                if "api" in m and m["api"] != req["api"]:
                    continue
                if "tools" in m and m["tools"] != s["tools"]:
                    continue
                if "tool_results" in m and m["tool_results"] != s["tool_results"]:
                    continue
                if "user" in m and not re.search(m["user"], s["user"]):
                    continue
                self.used[i] += 1
                return self.count, i, rule["reply"]
        return self.count, -1, {"status": 400, "error": "no scenario rule matched"}


# --------------------------------------------------------------------------
# HTTP
# --------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    lock = threading.Lock()
    barrier = None

    def meeting(self, count):
        with self.lock:
            self.barrier = self.barrier or threading.Barrier(count)
        return self.barrier


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "mock-llm/1"

    def log_message(self, *a):
        pass

    def log(self, **kw):
        self.server.mock_log(dict({"t": round(time.time() - self.server.t0, 3)}, **kw))

    # ---- plumbing

    def send_json(self, status, obj, headers=None):
        data = json.dumps(obj).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for k, v in (headers or {}).items():
            self.send_header(k, str(v))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def wait(self, seconds, n):
        """Sleep; False (and a log line) if the client hangs up meanwhile."""
        end = time.time() + seconds
        while time.time() < end:
            r, _, _ = select.select([self.connection], [], [],
                                    max(0, min(0.1, end - time.time())))
            if r:
                try:
                    gone = self.connection.recv(1, socket.MSG_PEEK) == b""
                except OSError:
                    gone = True
                if gone:
                    self.log(event="client_gone", n=n)
                    self.close_connection = True
                    return False
                time.sleep(0.1)
        return True

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def reset(self):
        """Drop the connection with a TCP RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                   struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()
        self.wfile = open(os.devnull, "wb")

    def read_body(self):
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            data = b""
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                data += self.rfile.read(size)
                self.rfile.readline()
                if size == 0:
                    return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    # ---- routes

    def do_GET(self):
        path = self.path.split("?")[0]
        if path.endswith("/models"):
            self.log(event="models", path=self.path)
            data = [{"id": "mock-model", "object": "model", "type": "model",
                     "display_name": "mock-model", "created": 0}]
            return self.send_json(200, {"object": "list", "data": data,
                                        "models": [], "has_more": False})
        self.log(event="other", method=self.command, path=self.path)
        self.send_json(404, {"error": {"message": "mock: no such path"}})

    def do_HEAD(self):
        self.log(event="other", method="HEAD", path=self.path)
        self.send_json(200, {})

    def do_POST(self):
        raw = self.read_body()
        if self.headers.get("Content-Encoding"):
            self.log(event="other", path=self.path, encoding=self.headers["Content-Encoding"])
            return self.send_json(415, {"error": {"message": "mock: no encodings"}})
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            body = {}
        path = self.path.split("?")[0]
        if path.endswith("/messages/count_tokens"):
            return self.send_json(200, {"input_tokens": USAGE_IN})
        if path.endswith(":countTokens"):
            return self.send_json(200, {"totalTokens": USAGE_IN})
        if path.endswith("/messages"):
            req = parse_anthropic(body, path)
        elif path.endswith("/responses"):
            req = parse_responses(body, path)
        elif path.endswith("/chat/completions"):
            req = parse_chat(body, path)
        elif path.endswith("enerateContent"):
            req = parse_gemini(body, path)
        else:
            self.log(event="other", method="POST", path=self.path)
            return self.send_json(404, {"error": {"message": "mock: no such path"}})
        self.answer(req, body)

    do_PUT = do_POST

    def answer(self, req, body):
        n, rule, reply = self.server.scenario.choose(req)
        text = reply.get("text", "")
        name, args = pick_tool(reply["tool"], req["tools"]) if "tool" in reply else (None, None)
        call = (name, args) if name else None
        if "tool" in reply and not call:
            text = (text + " (mock: no suitable tool was offered)").strip()
        self.log(event="request", n=n, rule=rule, api=req["api"], path=self.path,
                 model=req["model"], stream=req["stream"], status=reply.get("status", 200),
                 tool=name, offered=sorted(req["tools"]), turns=[
                     [r, t if len(t) <= 160 else t[:157] + "..."] for r, t in req["turns"]])
        if self.server.dump:
            with open(os.path.join(self.server.dump, "%04d.json" % n), "w") as f:
                json.dump(body, f, indent=1)
        try:
            if not self.wait(reply.get("delay", 0), n):
                return
            if "meet" in reply:               # nobody goes on before that many are there
                self.server.meeting(reply["meet"]).wait(timeout=MEETING)
            if reply.get("reset"):
                return self.reset()
            status = reply.get("status", 200)
            if status != 200:
                message = reply.get("error", "mock error %d" % status)
                return self.send_json(status, error_body(req["api"], status, message),
                                      reply.get("headers"))
            used = reply.get("usage", [USAGE_IN, USAGE_OUT])
            events, full = ENCODE[req["api"]](req, n, text, call, used)
            if not req["stream"]:
                if "truncate" in reply:       # agents fall back to this: cut it too
                    return self.reset()
                return self.send_json(200, full, reply.get("headers"))
            self.stream(req["api"], events, reply, n)
        except threading.BrokenBarrierError:
            self.send_json(400, error_body(req["api"], 400, "mock: the others did not come"))
        except (BrokenPipeError, ConnectionResetError):
            self.log(event="client_gone", n=n)
            self.close_connection = True

    def stream(self, api, events, reply, n):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Transfer-Encoding", "chunked")
        for k, v in reply.get("headers", {}).items():
            self.send_header(k, str(v))
        self.end_headers()
        stop = reply.get("truncate")          # after this many events ...
        if stop is True:                      # ... true: right behind the first text
            stop = {"chat": 2, "gemini": 1}.get(api, 3)
        for i, (event, data) in enumerate(events):
            if stop is not None and i >= stop:
                if not self.wait(reply.get("stall", 0), n):
                    return
                if reply.get("clean"):        # ... end the body politely,
                    break
                return self.reset()           # ... or drop the connection
            if i and not self.wait(reply.get("gap", 0), n):
                return
            line = data if isinstance(data, str) else json.dumps(data)
            out = ("event: %s\n" % event if event else "") + "data: %s\n\n" % line
            self.chunk(out.encode())
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()


def main():
    p = argparse.ArgumentParser(description="mock model API server (127.0.0.1 only)")
    p.add_argument("--port", type=int, default=0, help="0 (default): any free port")
    p.add_argument("--port-file", help="write the port number here once listening")
    p.add_argument("--scenario", help="JSON file; default: write hello.txt, then say done")
    p.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                   help="replace @NAME@ in the scenario's strings")
    p.add_argument("--log", help="append one JSON line per request here")
    p.add_argument("--dump", help="write each request's full body into this folder")
    a = p.parse_args()

    spec = BUILTIN
    if a.scenario:
        with open(a.scenario) as f:
            text = f.read()
        for item in a.set:
            name, value = item.split("=", 1)
            text = text.replace("@%s@" % name, json.dumps(value)[1:-1])
        spec = json.loads(text)
    srv = Server(("127.0.0.1", a.port), Handler)
    srv.scenario, srv.t0, srv.dump = Scenario(spec), time.time(), a.dump
    if a.dump:
        os.makedirs(a.dump, exist_ok=True)
    log = open(a.log, "a", buffering=1) if a.log else None
    lock = threading.Lock()

    def mock_log(obj):
        if log:
            with lock:
                log.write(json.dumps(obj) + "\n")
    srv.mock_log = mock_log

    port = srv.server_address[1]
    if a.port_file:
        with open(a.port_file + ".tmp", "w") as f:
            f.write("%d\n" % port)
        os.rename(a.port_file + ".tmp", a.port_file)
    print("mock-llm listening on 127.0.0.1:%d pid %d" % (port, os.getpid()), flush=True)
    try:
        srv.serve_forever(poll_interval=0.1)
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
