import { describe, expect, it } from 'vitest';
import type { Training } from '../../shared/types';
import { gains, grow, line, newName, share, smooth, wanted } from './lesson';

const training = (part: Partial<Training>): Training => ({
  id: 't', name: 'n', model: 'm', adapted_model: 'm:n', about: '', state: 'running', step: 0, steps: 0, created_at: '', ...part,
});

describe('a curve', () => {
  it('is drawn from left to right, the highest loss on top', () => {
    const points = [{ step: 1, loss: 4 }, { step: 2, loss: 3 }, { step: 3, loss: 2 }];
    expect(line(points, points, 100, 50)).toBe('0,0 50,25 100,50');
    expect(line(points.slice(0, 1), points.slice(0, 1), 100, 50)).toBe('0,50');
  });

  it('is smooth only where there are many points', () => {
    const few = [{ step: 1, loss: 4 }, { step: 2, loss: 2 }];
    expect(smooth(few)).toEqual(few);
    const many = Array.from({ length: 200 }, (_, i) => ({ step: i + 1, loss: i % 2 }));
    expect(smooth(many)[100]?.loss).toBeCloseTo(0.5, 0);
  });

  it('grows by what is told, and goes back with the training', () => {
    let curve = grow([], training({ stage: 'train', step: 1, loss: 3 }));
    curve = grow(curve, training({ stage: 'train', step: 9, loss: 2 }));
    expect(grow(curve, training({ stage: 'after', step: 9, loss: 2 }))).toBe(curve);
    expect(grow(curve, training({ stage: 'train', step: 4, loss: 2.5 }))).toEqual([{ step: 1, loss: 3 }, { step: 4, loss: 2.5 }]);
  });
});

describe('a training', () => {
  it('is as far as its steps say', () => {
    expect(share(training({}))).toBeUndefined();
    expect(share(training({ step: 3, steps: 4 }))).toBe(0.75);
    expect(share(training({ state: 'done' }))).toBe(1);
  });

  it('is a gain only if that can be seen', () => expect([gains(3, 2.5), gains(3, 2.995), gains(3, 3.1)]).toEqual([true, false, false]));
  it('gets a name that is free', () => expect(newName(['lesson-1', 'x'])).toBe('lesson-2'));
  it('has numbers, or leaves them open', () => expect([wanted(''), wanted('0,001'), wanted('x'), wanted(8)]).toEqual([undefined, 0.001, undefined, 8]));
});
