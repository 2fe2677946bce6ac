import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Unreachable, toError } from './api';

type Handler = (url: string, init: RequestInit) => Response | Promise<Response>;

const reply = (status: number, body: unknown) => new Response(JSON.stringify(body), { status });
const bearer = (init: RequestInit) => (init.headers as Record<string, string>).Authorization;

let calls: string[];

// load gives a fresh module, because the token is kept in it.
async function load(handler: Handler) {
  calls = [];
  vi.resetModules();
  vi.stubGlobal('fetch', async (url: string, init: RequestInit) => {
    calls.push(`${init.method} ${url}`);
    return handler(url, init);
  });
  return import('./api');
}

beforeEach(() => vi.unstubAllGlobals());
afterEach(() => vi.unstubAllGlobals());

describe('errors', () => {
  it('say what the daemon said', async () => {
    const error = await toError(reply(404, { error: { code: 'not_found', message: 'No model.', hint: 'Add one.', details: { n: 1 } } }));
    expect(error).toMatchObject({ status: 404, code: 'not_found', message: 'No model.', hint: 'Add one.', details: { n: 1 } });
  });

  it.each(['', '<html>Bad gateway</html>', '{}', '{"error":"text"}', 'null', '{"error":{"code":5}}'])(
    'that are not the daemon’s are named by their status: %s',
    async (text) => {
      const error = await toError(new Response(text, { status: 502, statusText: 'Bad Gateway' }));
      expect(error).toMatchObject({ status: 502, code: 'internal', message: '502 Bad Gateway', hint: '' });
    },
  );
});

describe('requests', () => {
  it('ask for a token once, also when many begin together', async () => {
    const { api } = await load((url) => (url.endsWith('/session') ? reply(200, { token: 't' }) : reply(200, { models: null })));
    expect(await Promise.all([api.models(), api.models()])).toEqual([[], []]);
    expect(calls.filter((c) => c.endsWith('/session'))).toHaveLength(1);
  });

  it('renew a token that has run out, once', async () => {
    let sessions = 0;
    const { api } = await load((url, init) => {
      if (url.endsWith('/session')) return reply(200, { token: `t${++sessions}` });
      return bearer(init) === 'Bearer t2' ? reply(200, { models: [] }) : reply(401, { error: { code: 'unauthorized', message: 'no' } });
    });
    expect(await api.models()).toEqual([]);
    expect(sessions).toBe(2);
  });

  it('give up when the new token is refused too', async () => {
    const { api, ApiError } = await load((url) =>
      url.endsWith('/session') ? reply(200, { token: 't' }) : reply(401, { error: { code: 'unauthorized', message: 'no' } }),
    );
    await expect(api.models()).rejects.toBeInstanceOf(ApiError);
    expect(calls).toHaveLength(4);
  });

  it('find the daemon again after it was gone', async () => {
    let up = false;
    const { api, onReach } = await load((url) => {
      if (!up) throw new TypeError('refused');
      return url.endsWith('/session') ? reply(200, { token: 't' }) : reply(200, { models: [] });
    });
    const reached: boolean[] = [];
    onReach((ok) => reached.push(ok));
    await expect(api.models()).rejects.toMatchObject({ code: new Unreachable(0).code });
    up = true;
    expect(await api.models()).toEqual([]);
    expect(reached).toEqual([false, true, true]);
  });

  it('escape names in paths', async () => {
    const { api } = await load((url) => (url.endsWith('/session') ? reply(200, { token: 't' }) : reply(200, {})));
    await api.loadModel('a/b c');
    expect(calls.at(-1)).toBe('POST /api/v1/models/a%2Fb%20c/load');
    await api.chats({ q: 'x & y', before: undefined });
    expect(calls.at(-1)).toBe('GET /api/v1/chats?q=x+%26+y');
  });

  it('agree to a licence only if told to', async () => {
    const bodies: unknown[] = [];
    const { api } = await load((url, init) => {
      if (url.endsWith('/session')) return reply(200, { token: 't' });
      bodies.push(JSON.parse(String(init.body)));
      return reply(201, {});
    });
    await api.download('a', false);
    await api.download('a', true);
    expect(bodies).toEqual([{ model: 'a' }, { model: 'a', accept_license: true }]);
    await api.pauseDownload('qwen2.5-0.5b');
    expect(calls.at(-1)).toBe('POST /api/v1/downloads/qwen2.5-0.5b/pause');
  });

  it('say which licence has to be agreed to', async () => {
    const license = { id: 'r', title: 'R', url: 'https://example.org', commercial: false };
    const { api } = await load((url) =>
      url.endsWith('/session') ? reply(200, { token: 't' }) : reply(403, { error: { code: 'forbidden', message: 'No.', details: { license } } }),
    );
    await expect(api.download('a', false)).rejects.toMatchObject({ status: 403, details: { license } });
  });
});
