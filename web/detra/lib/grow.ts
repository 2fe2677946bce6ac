// An attachment that makes a text field as high as its text; CSS bounds it.
import type { Attachment } from 'svelte/attachments';

export function grow(text: () => string): Attachment<HTMLTextAreaElement> {
  return (field) => {
    text();
    field.style.blockSize = 'auto';
    field.style.blockSize = `${field.scrollHeight + field.offsetHeight - field.clientHeight}px`;
  };
}
