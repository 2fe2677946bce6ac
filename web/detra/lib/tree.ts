// A chat is a tree of messages: an edit or a second answer is a sibling. What is read is one path through it.

export interface Node {
  id: string;
  parent: string;
}

export interface Step<N> {
  node: N;
  siblings: N[]; // itself included, oldest first
  index: number; // its place among them
}

export type Children<N> = Map<string, N[]>;

// childrenOf groups messages by parent, in the order in which they are given. A message whose parent is unknown counts as
// a first message, so that a damaged chat still shows.
export function childrenOf<N extends Node>(nodes: readonly N[]): Children<N> {
  const known = new Set(nodes.map((n) => n.id));
  const children: Children<N> = new Map();
  for (const node of nodes) {
    const parent = known.has(node.parent) ? node.parent : '';
    const list = children.get(parent);
    if (list) list.push(node);
    else children.set(parent, [node]);
  }
  return children;
}

// leafBelow follows the newest child of each message, down from id.
export function leafBelow<N extends Node>(children: Children<N>, id: string): string {
  for (;;) {
    const next = children.get(id)?.at(-1);
    if (!next) return id;
    id = next.id;
  }
}

// visiblePath returns the messages from the first one to the leaf at or below head. Without a valid head it shows the
// newest branch.
export function visiblePath<N extends Node>(nodes: readonly N[], children: Children<N>, head: string): Step<N>[] {
  const byId = new Map(nodes.map((n) => [n.id, n]));
  const path: Step<N>[] = [];
  let node = byId.get(leafBelow(children, byId.has(head) ? head : ''));
  const seen = new Set<string>();
  while (node && !seen.has(node.id)) {
    seen.add(node.id);
    const siblings: N[] = children.get(byId.has(node.parent) ? node.parent : '') ?? [node];
    path.push({ node, siblings, index: siblings.indexOf(node) });
    node = byId.get(node.parent);
  }
  return path.reverse();
}

// siblingHead returns the head that shows the sibling `by` places beside a step, or nothing at either end.
export function siblingHead<N extends Node>(children: Children<N>, step: Step<N>, by: number): string | undefined {
  const sibling = step.siblings[step.index + by];
  return sibling && leafBelow(children, sibling.id);
}
