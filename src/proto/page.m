-- The coherence protocol of page.h once more, in Murphi (rumur), written from the header and not from page.c: it checks the protocol's
-- idea, the explorer checks its code. Run by tests/model/run; the names are those of page.h.
--
-- Coarser where the idea allows it: the home serves waiting requests in any order (page.c takes turns), and it may take its time
-- between receiving the last answer and granting. Node 0 is the home. A payload is 'fresh' if it is the last write that retired.

const
  NODES: 3;
  UP: 3;   -- letters under way to the home: request, give-up, answer (I10)
  DOWN: 2; -- recall, grant

type
  Node: 0 .. NODES - 1;
  Maybe: 0 .. NODES; -- NODES: nobody
  State: enum { I, S, M };
  Pending: enum { idle, prefetching, reading, writing };
  Want: enum { no, want_s, want_m };
  Kind: enum { get_s, get_m, drop, write_back, inv, fetch_s, fetch_m, ack, data, grant_s, grant_m, nothing };
  Bytes: enum { none, zero, full };
  Letter: record kind: Kind; bytes: Bytes; fresh: boolean; end;
  UpCount: 0 .. UP;
  DownCount: 0 .. DOWN;

var
  state: array [Node] of State;
  pending: array [Node] of Pending;
  held: array [Node] of 0 .. 2;
  recalled: array [Node] of Kind; -- the recall that waits for a hold's end; the home's own waits in the rules below
  up: array [Node] of array [0 .. UP - 1] of Letter;
  ups: array [Node] of UpCount;
  down: array [Node] of array [0 .. DOWN - 1] of Letter;
  downs: array [Node] of DownCount;
  -- the directory
  sharer: array [Node] of boolean;
  want: array [Node] of Want;
  awaiting: array [Node] of boolean;
  owner: Maybe;
  serving: Maybe;
  serving_m: boolean;
  touched: boolean;
  -- ghost: did the last write that retired leave zeros?
  last_zero: boolean;

-- Letters.

procedure blank(var l: Letter);
begin
  l.kind := nothing;
  l.bytes := none;
  l.fresh := false;
end;

procedure send_up(n: Node; kind: Kind; bytes: Bytes);
begin
  assert "I10 at most three letters to the home" ups[n] < UP;
  up[n][ups[n]].kind := kind;
  up[n][ups[n]].bytes := bytes;
  up[n][ups[n]].fresh := bytes != none;
  ups[n] := ups[n] + 1;
end;

procedure send_down(n: Node; kind: Kind; bytes: Bytes; fresh: boolean);
begin
  assert "I10 at most two letters from the home" downs[n] < DOWN;
  down[n][downs[n]].kind := kind;
  down[n][downs[n]].bytes := bytes;
  down[n][downs[n]].fresh := fresh;
  downs[n] := downs[n] + 1;
end;

procedure shift_up(n: Node);
begin
  for i: 0 .. UP - 2 do
    up[n][i] := up[n][i + 1];
  end;
  blank(up[n][UP - 1]);
  ups[n] := ups[n] - 1;
end;

procedure shift_down(n: Node);
begin
  for i: 0 .. DOWN - 2 do
    down[n][i] := down[n][i + 1];
  end;
  blank(down[n][DOWN - 1]);
  downs[n] := downs[n] - 1;
end;

-- The bytes of a frame as its holder's driver sends them: it looks whether they are all zero.
function taken(): Bytes;
begin
  if last_zero then return zero; end;
  return full;
end;

function fresh_bytes(bytes: Bytes; fresh: boolean): boolean;
begin
  return (bytes = zero & last_zero) | (bytes = full & fresh);
end;

-- Holders.

procedure install(n: Node; s: State; bytes: Bytes; fresh: boolean);
begin
  assert "nothing is installed over a frame" state[n] = I;
  assert "I2 a fresh copy is installed" fresh_bytes(bytes, fresh);
  state[n] := s;
end;

procedure hold(n: Node);
begin
  assert "at most two holds at a time" held[n] < 2;
  held[n] := held[n] + 1;
end;

procedure request(n: Node; why: Pending);
begin
  assert "I3 one request of a node at a time" pending[n] = idle;
  pending[n] := why;
  if n = 0 then
    if why = writing then want[n] := want_m; else want[n] := want_s; end;
  elsif why = writing then
    send_up(n, get_m, none);
  else
    send_up(n, get_s, none);
  end;
end;

procedure answer(n: Node; recall: Kind);
begin
  assert "I9 nothing is taken during its hold" held[n] = 0;
  if state[n] = I then
    send_up(n, ack, none);
  elsif recall = inv then
    state[n] := I;
    send_up(n, ack, none);
  elsif recall = fetch_s then
    assert "only an owner is fetched from" state[n] = M;
    state[n] := S;
    send_up(n, data, taken());
  else
    assert "only an owner is fetched from" state[n] = M;
    state[n] := I;
    send_up(n, data, taken());
  end;
end;

procedure granted_s(n: Node; bytes: Bytes; fresh: boolean);
begin
  if state[n] = I then
    install(n, S, bytes, fresh);
  else
    assert "only at the home can a copy have come meanwhile" n = 0;
  end;
  if pending[n] != prefetching then hold(n); end;
  pending[n] := idle;
end;

procedure granted_m(n: Node; bytes: Bytes; fresh: boolean);
begin
  assert "I7 only what was asked for is granted" pending[n] != idle;
  if bytes = none then
    assert "only a copy can be upgraded" state[n] = S;
    state[n] := M;
  else
    install(n, M, bytes, fresh);
  end;
  if pending[n] != prefetching then hold(n); end;
  pending[n] := idle;
end;

-- The home.

function answers_missing(): boolean;
begin
  return exists n: Node do awaiting[n] end;
end;

function home_bytes(): Bytes;
begin
  if !touched then return zero; end;
  assert "I6 the home has the bytes it must grant" state[0] != I;
  return taken();
end;

procedure grant_s_to(n: Node; bytes: Bytes; fresh: boolean);
begin
  serving := NODES;
  sharer[n] := true;
  if n = 0 then granted_s(0, bytes, fresh); else send_down(n, grant_s, bytes, fresh); end;
end;

procedure grant_m_to(n: Node; bytes: Bytes; fresh: boolean);
begin
  assert "I4 the home's copy is gone before a grant" n = 0 | state[0] = I;
  serving := NODES;
  for k: Node do sharer[k] := false; end;
  owner := n;
  touched := true;
  if n = 0 then granted_m(0, bytes, fresh); else send_down(n, grant_m, bytes, fresh); end;
end;

-- Bytes without an owner come to rest at the home; zeros need no frame.
procedure settle(bytes: Bytes; fresh: boolean);
begin
  touched := bytes != zero;
  if touched then
    install(0, S, bytes, fresh);
    sharer[0] := true;
  end;
end;

procedure take_data(n: Node; bytes: Bytes; fresh: boolean);
begin
  assert "I7 data answers a fetch" awaiting[n] & owner = n;
  awaiting[n] := false;
  owner := NODES;
  if serving_m then
    grant_m_to(serving, bytes, fresh);
  else
    sharer[n] := true;
    if serving = 0 then touched := bytes != zero; else settle(bytes, fresh); end;
    grant_s_to(serving, bytes, fresh);
  end;
end;

procedure home_takes(n: Node; l: Letter);
begin
  switch l.kind
    case get_s:
      assert "I3 one request of a node at a time" want[n] = no & serving != n;
      assert "nobody asks for what it has" !sharer[n] & owner != n;
      want[n] := want_s;
    case get_m:
      assert "I3 one request of a node at a time" want[n] = no & serving != n;
      assert "nobody asks for what it has" owner != n;
      want[n] := want_m;
    case drop:
      assert "I5 only a sharer drops" sharer[n];
      sharer[n] := false;
    case write_back:
      assert "I5 only the owner writes back" owner = n;
      owner := NODES;
      settle(l.bytes, l.fresh);
    case ack:
      assert "I7 an ack answers a recall" awaiting[n] & owner != n;
      awaiting[n] := false;
      sharer[n] := false;
    case data:
      take_data(n, l.bytes, l.fresh);
    else
      error "no letter for the home";
  end;
end;

procedure holder_takes(n: Node; l: Letter);
begin
  assert "the home waits for its answer before it says more" recalled[n] = nothing;
  switch l.kind
    case grant_s:
      granted_s(n, l.bytes, l.fresh);
    case grant_m:
      granted_m(n, l.bytes, l.fresh);
    else
      if held[n] > 0 then recalled[n] := l.kind; else answer(n, l.kind); end;
  end;
end;

-- Rules: threads and memory pressure.

procedure retire(n: Node; zeros: boolean);
begin
  last_zero := zeros;
  for k: Node do
    assert "I1 no copy beside the writer's" k = n | state[k] = I;
    for i: 0 .. UP - 1 do up[k][i].fresh := false; end;
    for i: 0 .. DOWN - 1 do down[k][i].fresh := false; end;
  end;
end;

ruleset n: Node do
  rule "read fault" state[n] = I & (pending[n] = idle | pending[n] = prefetching) ==>
  begin
    if pending[n] = idle then request(n, reading); else pending[n] := reading; end;
  end;

  rule "write fault" state[n] != M & (pending[n] = idle | pending[n] = prefetching) ==>
  begin
    if pending[n] = idle then request(n, writing); else pending[n] := reading; end;
  end;

  rule "prefetch" state[n] = I & pending[n] = idle ==>
  begin
    request(n, prefetching);
  end;

  rule "evict" n != 0 & state[n] != I & held[n] = 0 & pending[n] = idle ==>
  begin
    if state[n] = S then send_up(n, drop, none); else send_up(n, write_back, taken()); end;
    state[n] := I;
  end;

  -- The guest says that the bytes are worth nothing: a write of zeros and an eviction in one.
  rule "discard" state[n] = M & held[n] = 0 & pending[n] = idle ==>
  begin
    retire(n, true);
    state[n] := I;
    if n = 0 then
      owner := NODES;
      touched := false;
    else
      send_up(n, write_back, zero);
    end;
  end;

  rule "hold ends" held[n] > 0 ==>
  begin
    held[n] := held[n] - 1;
    if held[n] = 0 & recalled[n] != nothing then
      answer(n, recalled[n]);
      recalled[n] := nothing;
    end;
  end;

  ruleset zeros: boolean do
    rule "write retires" state[n] = M ==>
    begin
      retire(n, zeros);
    end;
  end;
end;

-- Rules: the network, in order for each pair.

ruleset n: Node do
  rule "home takes a letter" ups[n] > 0 ==>
  var l: Letter;
  begin
    l := up[n][0];
    shift_up(n);
    home_takes(n, l);
  end;

  rule "home takes a read for a write" ups[n] > 0 & up[n][0].kind = get_s ==>
  var l: Letter;
  begin
    l := up[n][0];
    l.kind := get_m;
    shift_up(n);
    home_takes(n, l);
  end;

  rule "holder takes a letter" downs[n] > 0 ==>
  var l: Letter;
  begin
    l := down[n][0];
    shift_down(n);
    holder_takes(n, l);
  end;
end;

-- Rules: the home serves.

ruleset n: Node do
  rule "serve" serving = NODES & want[n] != no ==>
  begin
    serving := n;
    serving_m := want[n] = want_m;
    want[n] := no;
    for k: Node do
      if k != 0 & k != n then
        if owner = k then
          awaiting[k] := true;
          if serving_m then send_down(k, fetch_m, none, false); else send_down(k, fetch_s, none, false); end;
        elsif serving_m & sharer[k] then
          awaiting[k] := true;
          send_down(k, inv, none, false);
        end;
      end;
    end;
  end;
end;

rule "finish a read" serving != NODES & !serving_m & !answers_missing() & (state[0] != M | held[0] = 0) ==>
begin
  if state[0] = M then
    state[0] := S;
    owner := NODES;
    sharer[0] := true;
  end;
  grant_s_to(serving, home_bytes(), true);
end;

rule "finish a write" serving != NODES & serving_m & !answers_missing() & (serving = 0 | state[0] = I | held[0] = 0) ==>
var bytes: Bytes;
begin
  if sharer[serving] then bytes := none; else bytes := home_bytes(); end;
  if serving != 0 then state[0] := I; end;
  grant_m_to(serving, bytes, true);
end;

startstate
begin
  for n: Node do
    state[n] := I;
    pending[n] := idle;
    held[n] := 0;
    recalled[n] := nothing;
    ups[n] := 0;
    downs[n] := 0;
    for i: 0 .. UP - 1 do blank(up[n][i]); end;
    for i: 0 .. DOWN - 1 do blank(down[n][i]); end;
    sharer[n] := false;
    want[n] := no;
    awaiting[n] := false;
  end;
  owner := NODES;
  serving := NODES;
  serving_m := false;
  touched := false;
  last_zero := true;
end;

invariant "I1 one writer, or readers"
  forall a: Node do forall b: Node do a = b | state[a] != M | state[b] = I end end;

invariant "I5 the directory knows the owner"
  forall n: Node do state[n] != M | owner = n end;

invariant "I5 the directory knows the sharers"
  forall n: Node do state[n] != S | sharer[n] | owner = n end;

invariant "I6 bytes without an owner are at the home"
  owner != NODES | !touched | state[0] = S;

invariant "I6 what the home takes for zero is zero"
  touched | last_zero;

-- From every state everybody who waits can still be granted (I8; that it happens in turn is the explorer's to show).
ruleset n: Node do
  liveness "I8 a request can still be granted" pending[n] = idle;
end;
