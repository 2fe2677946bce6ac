import { describe, expect, it } from 'vitest';
import { childrenOf, leafBelow, siblingHead, visiblePath, type Node } from './tree';

// A chat with an edited first message and a second answer:  a─b─c─d   a─b2   e─f
const nodes: Node[] = [
  { id: 'a', parent: '' },
  { id: 'b', parent: 'a' },
  { id: 'c', parent: 'b' },
  { id: 'd', parent: 'c' },
  { id: 'b2', parent: 'a' },
  { id: 'e', parent: '' },
  { id: 'f', parent: 'e' },
];
const children = childrenOf(nodes);
const ids = (head: string) => visiblePath(nodes, children, head).map((s) => s.node.id);

describe('the visible path', () => {
  it('goes from the first message to the head', () => expect(ids('b2')).toEqual(['a', 'b2']));
  it('goes on to the newest leaf below a head in the middle', () => expect(ids('b')).toEqual(['a', 'b', 'c', 'd']));
  it('takes the newest child of a head that branches', () => expect(ids('a')).toEqual(['a', 'b2']));
  it('shows the newest branch without a head', () => expect(ids('')).toEqual(['e', 'f']));
  it('shows the newest branch for a head that is gone', () => expect(ids('gone')).toEqual(['e', 'f']));
  it('is empty for an empty chat', () => expect(visiblePath([], childrenOf([]), '')).toEqual([]));

  it('counts siblings, oldest first', () => {
    const [first, second] = visiblePath(nodes, children, 'd');
    expect(first!.siblings.map((n) => n.id)).toEqual(['a', 'e']);
    expect(first!.index).toBe(0);
    expect(second!.siblings.map((n) => n.id)).toEqual(['b', 'b2']);
  });

  it('takes a message whose parent is unknown for a first one', () => {
    const orphan = [{ id: 'x', parent: 'lost' }];
    expect(visiblePath(orphan, childrenOf(orphan), 'x').map((s) => s.node.id)).toEqual(['x']);
  });

  it('ends on a ring', () => {
    const ring = [{ id: 'x', parent: 'y' }, { id: 'y', parent: 'x' }];
    expect(visiblePath(ring, childrenOf(ring), '')).toEqual([]);
  });

  it('is quick for thousands of messages', () => {
    const long = Array.from({ length: 20_000 }, (_, i) => ({ id: String(i), parent: i ? String(i - 1) : '' }));
    const start = performance.now();
    expect(visiblePath(long, childrenOf(long), '0')).toHaveLength(20_000);
    expect(performance.now() - start).toBeLessThan(500);
  });
});

describe('a sibling', () => {
  it('is shown down to its newest leaf', () => {
    const [first] = visiblePath(nodes, children, 'b');
    expect(siblingHead(children, first!, 1)).toBe('f');
    expect(siblingHead(children, first!, -1)).toBeUndefined();
  });

  it('below a leaf is the leaf', () => expect(leafBelow(children, 'f')).toBe('f'));
});
