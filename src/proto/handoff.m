-- The hand-off of handoff.h once more, in Murphi (rumur), written from the header and not from handoff.c: it checks the idea, the explorer checks the code. Run by
-- tests/model/run.py; the names are those of handoff.h.
--
-- Coarser where the idea allows it: moves are ordered by nobody in particular, the target makes room in no time, every node but a spare target holds something else
-- of the VM (so that its loss ends it and is not modelled), and words are counted, not named; nodes 1 and 2 are enough
-- to send them.

const
  NODES: 3;
  ROOM: 9;   -- letters in a channel
  WORDS: 2;  -- of each sender
  MOVES: 2;

type
  Node: 0 .. NODES - 1;
  State: enum { away, here, asking, freezing, shipped, undoing, forwarding, willing, installing, ready, arrived };
  Body: enum { absent, runs, captured, inert };
  Kind: enum { prepare, state, commit, abort, prepared, readied, refused, aborted, moved, switched, mark, word, nothing };
  Count: 0 .. WORDS;
  Letter: record kind: Kind; node: Node; number: Count; end;

var
  st: array [Node] of State;
  body: array [Node] of Body;
  at: array [Node] of Node;
  peer: array [Node] of Node;
  waiting: array [Node] of array [Node] of boolean; -- forwarding: who has not switched; arrived: whose mark has not come
  kept: array [Node] of array [Node] of Count;      -- by node, by sender: how many words are kept
  link: array [Node] of array [Node] of array [0 .. ROOM - 1] of Letter;
  links: array [Node] of array [Node] of 0 .. ROOM;
  sent: array [Node] of Count;
  delivered: array [Node] of Count;
  moves: 0 .. MOVES;
  dead: array [Node] of boolean;
  lost: array [Node] of array [Node] of boolean;
  ended: boolean; -- the VM stops, all of it

-- Letters.

procedure blank(var l: Letter);
begin
  l.kind := nothing;
  l.node := 0;
  l.number := 0;
end;

procedure send(a: Node; b: Node; kind: Kind; n: Node; number: Count);
begin
  if !lost[a][b] & !dead[b] then
    assert "H8 letters are bounded" links[a][b] < ROOM;
    link[a][b][links[a][b]].kind := kind;
    link[a][b][links[a][b]].node := n;
    link[a][b][links[a][b]].number := number;
    links[a][b] := links[a][b] + 1;
  end;
end;

procedure shift(a: Node; b: Node);
begin
  for i: 0 .. ROOM - 2 do
    link[a][b][i] := link[a][b][i + 1];
  end;
  blank(link[a][b][ROOM - 1]);
  links[a][b] := links[a][b] - 1;
end;

-- Words. Kept words of a sender are the next ones after those delivered or passed on, so a count is enough.

procedure deliver(n: Node; sender: Node; number: Count);
begin
  assert "H2 only what runs is given words" body[n] = runs;
  assert "H4 each word once, in order" number = delivered[sender] + 1;
  delivered[sender] := number;
end;

procedure word_comes(n: Node; origin: Node; sender: Node; number: Count);
begin
  if st[n] = forwarding then
    send(n, peer[n], word, sender, number);
  elsif st[n] = shipped | st[n] = ready | (st[n] = arrived & origin = sender & waiting[n][sender]) then
    kept[n][sender] := kept[n][sender] + 1;
  else
    deliver(n, sender, number);
  end;
end;

procedure give(n: Node; sender: Node);
begin
  for i: 1 .. WORDS do
    if kept[n][sender] > 0 then
      deliver(n, sender, delivered[sender] + 1);
      kept[n][sender] := kept[n][sender] - 1;
    end;
  end;
end;

-- The source.

procedure undo(n: Node);
begin
  if st[n] = freezing | st[n] = shipped then
    body[n] := runs;
    for k: Node do give(n, k); end;
  end;
end;

procedure switch_over(n: Node; who: Node);
begin
  waiting[n][who] := false;
  send(n, peer[n], mark, who, 0);
  if forall k: Node do !waiting[n][k] end then st[n] := away; end;
end;

-- Kept words go first, in order; delivered[] says where they begin.
procedure commit_it(n: Node);
begin
  st[n] := forwarding;
  body[n] := absent;
  at[n] := peer[n];
  for k: Node do waiting[n][k] := k != n; end;
  send(n, peer[n], commit, n, 0);
  for k: Node do
    for i: 1 .. WORDS do
      if i <= kept[n][k] then send(n, peer[n], word, k, delivered[k] + i); end;
    end;
    kept[n][k] := 0;
  end;
  for k: Node do
    if k != n & k != peer[n] then send(n, k, moved, peer[n], 0); end;
  end;
  for k: Node do
    if waiting[n][k] & lost[n][k] then switch_over(n, k); end;
  end;
end;

-- The target.

procedure drop(n: Node);
begin
  st[n] := away;
  body[n] := absent;
  for k: Node do kept[n][k] := 0; end;
end;

procedure run_it(n: Node);
begin
  assert "H2 what runs was installed" body[n] = inert;
  st[n] := arrived;
  body[n] := runs;
  at[n] := n;
  for k: Node do waiting[n][k] := k != peer[n]; end;
  send(n, peer[n], switched, n, 0);
end;

procedure takes(n: Node; from: Node; l: Letter);
begin
  switch l.kind
    case prepare:
      assert "nobody is asked twice" st[n] = away;
      st[n] := willing;
      peer[n] := from;
      send(n, from, prepared, n, 0);
    case prepared:
      if st[n] = asking then st[n] := freezing; else assert "it crossed an abort" st[n] = undoing; end;
    case state:
      assert "a state comes to who has room" st[n] = willing;
      st[n] := installing;
    case readied:
      if st[n] = shipped then commit_it(n); else assert "it crossed an abort" st[n] = undoing; end;
    case commit:
      assert "H3 committed is what was ready" st[n] = ready;
      run_it(n);
    case abort:
      if st[n] != away then
        assert "H3 no abort after a commit" st[n] = willing | st[n] = installing | st[n] = ready;
        drop(n);
        send(n, from, aborted, n, 0);
      end;
    case refused:
      undo(n);
      st[n] := here;
    case aborted:
      assert "an answer to an abort" st[n] = undoing;
      st[n] := here;
    case moved:
      assert "only who has it moves it" st[n] = away & at[n] = from;
      send(n, from, switched, n, 0);
      at[n] := l.node;
      if lost[n][l.node] then ended := true; end;
    case switched:
      assert "only once" st[n] = forwarding & waiting[n][from];
      switch_over(n, from);
    case mark:
      assert "only once" st[n] = arrived & waiting[n][l.node];
      waiting[n][l.node] := false;
      give(n, l.node);
      if forall k: Node do !waiting[n][k] end then st[n] := here; end;
    case word:
      word_comes(n, from, l.node, l.number);
    else
      error "no such letter";
  end;
end;

-- Rules.

ruleset n: Node do ruleset t: Node do
  rule "order" !ended & !dead[n] & st[n] = here & t != n & !lost[n][t] & moves < MOVES ==>
  begin
    moves := moves + 1;
    st[n] := asking;
    peer[n] := t;
    send(n, t, prepare, n, 0);
  end;
end; end;

ruleset n: Node do
  rule "frozen" !ended & !dead[n] & st[n] = freezing ==>
  begin
    st[n] := shipped;
    body[n] := captured;
    send(n, peer[n], state, n, 0);
  end;

  rule "cancel" !ended & !dead[n] & (st[n] = asking | st[n] = freezing | st[n] = shipped) ==>
  begin
    undo(n);
    st[n] := undoing;
    send(n, peer[n], abort, n, 0);
  end;

  rule "installed" !ended & !dead[n] & st[n] = installing ==>
  begin
    st[n] := ready;
    body[n] := inert;
    send(n, peer[n], readied, n, 0);
  end;

  rule "refuse" !ended & !dead[n] & st[n] = installing ==>
  begin
    drop(n);
    send(n, peer[n], refused, n, 0);
  end;

  rule "a word" !ended & !dead[n] & n != 0 & sent[n] < (n = 1 ? WORDS : 1) ==>
  begin
    sent[n] := sent[n] + 1;
    if at[n] != n then
      if lost[n][at[n]] then ended := true; else send(n, at[n], word, n, sent[n]); end;
    else
      word_comes(n, n, n, sent[n]);
    end;
  end;

  -- The last node is a spare one while it holds no part: it may crash. (It sends no words then; see handoff.h.)
  rule "crash" !ended & n = NODES - 1 & !dead[n] & sent[n] = 0 & (st[n] = away | st[n] = willing | st[n] = installing | st[n] = ready) &
    forall k: Node do forall i: 0 .. ROOM - 1 do link[n][k][i].kind != mark end end ==>
  begin
    dead[n] := true;
    body[n] := absent;
    sent[n] := 0;
    for k: Node do
      kept[n][k] := 0;
      links[k][n] := 0;
      for i: 0 .. ROOM - 1 do blank(link[k][n][i]); end;
    end;
  end;
end;

ruleset a: Node do ruleset b: Node do
  rule "a letter arrives" !ended & !dead[b] & links[a][b] > 0 ==>
  var l: Letter;
  begin
    l := link[a][b][0];
    shift(a, b);
    takes(b, a, l);
  end;

  rule "a letter of the dead is lost" !ended & dead[a] & links[a][b] > 0 ==>
  begin
    blank(link[a][b][links[a][b] - 1]);
    links[a][b] := links[a][b] - 1;
  end;

  rule "a loss is noticed" !ended & dead[a] & !dead[b] & links[a][b] = 0 & !lost[b][a] ==>
  begin
    lost[b][a] := true;
    if at[b] = a then
      ended := true;
    elsif peer[b] = a & (st[b] = asking | st[b] = freezing | st[b] = shipped | st[b] = undoing) then
      undo(b);
      st[b] := here;
    elsif st[b] = forwarding & waiting[b][a] then
      switch_over(b, a);
    end;
  end;
end; end;

startstate
begin
  for n: Node do
    st[n] := away;
    body[n] := absent;
    at[n] := 0;
    peer[n] := 0;
    sent[n] := 0;
    delivered[n] := 0;
    dead[n] := false;
    for k: Node do
      waiting[n][k] := false;
      kept[n][k] := 0;
      links[n][k] := 0;
      lost[n][k] := false;
      for i: 0 .. ROOM - 1 do blank(link[n][k][i]); end;
    end;
  end;
  st[0] := here;
  body[0] := runs;
  moves := 0;
  ended := false;
end;

invariant "H1 at most one node runs it"
  forall a: Node do forall b: Node do a = b | body[a] != runs | body[b] != runs end end;

invariant "H3 a copy is ready only while its source cannot run, or has undone it"
  forall n: Node do dead[n] | st[n] != ready | body[peer[n]] = captured | st[peer[n]] = forwarding | st[peer[n]] = undoing end;

-- Nobody waits for ever, and no word is lost: from every state all can come to rest, with everything delivered.
ruleset n: Node do
  liveness "H5 a move ends" ended | dead[n] | st[n] = away | st[n] = here;
  liveness "H4 a word arrives" ended | dead[n] | delivered[n] = sent[n];
end;
liveness "H5 somebody runs it" ended | exists n: Node do st[n] = here & body[n] = runs end;
