"""The paper's network: configuration, layers, modules, the model, the modules that replace others in ablations,
and the fast form that runs."""
