"""From files of text to one long array of tokens: documents, sentences, vocabulary, store."""
