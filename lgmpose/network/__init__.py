"""The paper's network: configuration, layers, modules, the model, Tables 4 and 5's variants, the fast form."""
